"""The papers behind grafts and losses as BibTeX cites them: authors, full title, venue, year.

The catalogue names a paper by a short text; this file says the rest of it, so that a thesis can cite what it used. A
test makes sure that every paper which the catalogue names is here, with its authors, and no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONFERENCES = {
    "CVPR": "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    "ICCV": "Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)",
    "ECCV": "European Conference on Computer Vision (ECCV)",
    "WACV": "Proceedings of the IEEE/CVF Winter Conference on Applications of Computer Vision (WACV)",
    "NeurIPS": "Advances in Neural Information Processing Systems (NeurIPS)",
    "ICML": "International Conference on Machine Learning (ICML)",
    "ICLR": "International Conference on Learning Representations (ICLR)",
    "ICASSP": "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)",
    "ISBI": "IEEE International Symposium on Biomedical Imaging (ISBI)",
    "IEEE SMC": "IEEE International Conference on Systems, Man, and Cybernetics (SMC)",
    "ECML PKDD": "European Conference on Machine Learning and Knowledge Discovery in Databases (ECML PKDD)",
    "AAAI": "Proceedings of the AAAI Conference on Artificial Intelligence",
}
_JOURNALS = {
    "IEEE TIP": "IEEE Transactions on Image Processing",
    "TMM": "IEEE Transactions on Multimedia",
    "Engineering Applications of AI": "Engineering Applications of Artificial Intelligence",
    "Neural Networks 170,": "Neural Networks",
}


@dataclass(frozen=True)
class Paper:
    """One paper.

    Args:
        title: Its whole title.
        authors: Its authors in their order.
        venue: Conference or journal as the catalogue shortens it; empty for a preprint.
        year: When it appeared there.
        eprint: Its number on arXiv, of a preprint.
    """

    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    eprint: str = ""

    @property
    def key(self) -> str:
        """How BibTeX calls it: first author's last name, year, first long word of the title."""
        word = next((w for w in re.findall(r"[A-Za-z0-9]+", self.title) if len(w) > 3), "paper")
        last = re.sub(r"[^a-z]", "", _ascii(self.authors[0].split()[-1]).lower())
        return f"{last}{self.year}{word.lower()}"

    def bibtex(self, source: str = "") -> str:
        """The entry.

        Args:
            source: Where the official code is, as the catalogue says it.
        """
        fields = {"author": " and ".join(_latex(name) for name in self.authors), "title": f"{{{_latex(self.title)}}}"}
        kind = "misc"
        if self.venue in _CONFERENCES:
            kind, fields["booktitle"] = "inproceedings", _CONFERENCES[self.venue]
        elif self.venue:
            kind, fields["journal"] = "article", _JOURNALS.get(self.venue, self.venue)
        fields["year"] = str(self.year)
        if self.eprint:
            fields |= {"eprint": self.eprint, "archiveprefix": "arXiv"}
        link = re.match(r"(?:https?://)?(github\.com/[\w.-]+/[\w.-]+)", source)
        if link:
            fields["note"] = f"Code: \\url{{https://{link[1]}}}"
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{kind}{{{self.key},\n{lines}\n}}"


_ACCENTS = {"á": ("a", "{\\'a}"), "ë": ("e", '{\\"e}'), "ü": ("u", '{\\"u}')}


def _ascii(text: str) -> str:
    return "".join(_ACCENTS[c][0] if c in _ACCENTS else c for c in text)


def _latex(text: str) -> str:
    """A text as BibTeX of any age reads it."""
    return "".join(_ACCENTS[c][1] if c in _ACCENTS else f"\\{c}" if c in "&%$#_" else c for c in text)


@dataclass(frozen=True)
class _Entry:
    """A line of the list: the catalogue's text, the authors, the whole title where that text shortens it."""

    text: str
    authors: str
    title: str = ""
    eprint: str = ""

    def paper(self) -> Paper:
        """What it says.

        Raises:
            ValueError: The catalogue's text does not end with venue and year, or a number of arXiv.
        """
        found = re.fullmatch(
            r"(?P<title>.+?), (?:arXiv (?P<eprint>\d{4}\.\d{5})(?:, \d{4})?|(?P<venue>[^,]+,?) (?P<year>\d{4}))",
            self.text,
        )
        if found is None:
            raise ValueError(f"not a paper with its venue and year: {self.text!r}")
        eprint, venue = self.eprint or found["eprint"] or "", found["venue"] or ""
        year = int(found["year"] or f"20{eprint[:2]}")
        venue = "" if venue == "arXiv" else venue
        return Paper(self.title or found["title"], tuple(self.authors.split(", ")), venue, year, eprint)


_ENTRIES = (
    _Entry(
        "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders, CVPR 2023",
        "Sanghyun Woo, Shoubhik Debnath, Ronghang Hu, Xinlei Chen, Zhuang Liu, In So Kweon, Saining Xie",
    ),
    _Entry(
        "RepViT: Revisiting Mobile CNN From ViT Perspective, CVPR 2024",
        "Ao Wang, Hui Chen, Zijia Lin, Jungong Han, Guiguang Ding",
    ),
    _Entry(
        "UniRepLKNet: A Universal Perception Large-Kernel ConvNet, CVPR 2024",
        "Xiaohan Ding, Yiyuan Zhang, Yixiao Ge, Sijie Zhao, Lin Song, Xiangyu Yue, Ying Shan",
        "UniRepLKNet: A Universal Perception Large-Kernel ConvNet for Audio, Video, Point Cloud, "
        "Time-Series and Image Recognition",
    ),
    _Entry(
        "Large Selective Kernel Network for Remote Sensing Object Detection, ICCV 2023",
        "Yuxuan Li, Qibin Hou, Zhaohui Zheng, Ming-Ming Cheng, Jian Yang, Xiang Li",
    ),
    _Entry(
        "Poly Kernel Inception Network for Remote Sensing Detection, CVPR 2024",
        "Xinhao Cai, Qiuxia Lai, Yuwei Wang, Wenguan Wang, Zeren Sun, Yazhou Yao",
    ),
    _Entry(
        "VanillaNet: the Power of Minimalism in Deep Learning, NeurIPS 2023",
        "Hanting Chen, Yunhe Wang, Jianyuan Guo, Dacheng Tao",
    ),
    _Entry(
        "ParameterNet: Parameters Are All You Need, CVPR 2024",
        "Kai Han, Yunhe Wang, Jianyuan Guo, Enhua Wu",
    ),
    _Entry(
        "CARAFE: Content-Aware ReAssembly of FEatures, ICCV 2019",
        "Jiaqi Wang, Kai Chen, Rui Xu, Ziwei Liu, Chen Change Loy, Dahua Lin",
    ),
    _Entry(
        "Learning to Upsample by Learning to Sample, ICCV 2023",
        "Wenze Liu, Hao Lu, Hongtao Fu, Zhiguo Cao",
    ),
    _Entry(
        "EMCAD: Efficient Multi-scale Convolutional Attention Decoding, CVPR 2024",
        "Md Mostafijur Rahman, Mustafa Munir, Radu Marculescu",
        "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical Image Segmentation",
    ),
    _Entry(
        "Efficient Multi-Scale Attention Module with Cross-Spatial Learning, ICASSP 2023",
        "Daliang Ouyang, Su He, Guozhong Zhang, Mingzhu Luo, Huaiyong Guo, Jian Zhan, Zhijie Huang",
    ),
    _Entry(
        "CBAM: Convolutional Block Attention Module, ECCV 2018",
        "Sanghyun Woo, Jongchan Park, Joon-Young Lee, In So Kweon",
    ),
    _Entry(
        "Coordinate Attention for Efficient Mobile Network Design, CVPR 2021",
        "Qibin Hou, Daquan Zhou, Jiashi Feng",
    ),
    _Entry(
        "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks, ICML 2021",
        "Lingxiao Yang, Ru-Yuan Zhang, Lida Li, Xiaohua Xie",
    ),
    _Entry(
        "Large Separable Kernel Attention, Expert Systems with Applications 2024",
        "Kin Wai Lau, Lai-Man Po, Yasar Abbas Ur Rehman",
        "Large Separable Kernel Attention: Rethinking the Large Kernel Attention Design in CNN",
    ),
    _Entry(
        "Squeeze-and-Excitation Networks, CVPR 2018",
        "Jie Hu, Li Shen, Gang Sun",
    ),
    _Entry(
        "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks, CVPR 2020",
        "Qilong Wang, Banggu Wu, Pengfei Zhu, Peihua Li, Wangmeng Zuo, Qinghua Hu",
    ),
    _Entry(
        "Mixed local channel attention for object detection, Engineering Applications of AI 2023",
        "Dahang Wan, Rongsheng Lu, Siyuan Shen, Ting Xu, Xianli Lang, Zhijie Ren",
    ),
    _Entry(
        "Rotate to Attend: Convolutional Triplet Attention Module, WACV 2021",
        "Diganta Misra, Trikay Nalamada, Ajay Uppili Arasanipalai, Qibin Hou",
    ),
    _Entry(
        "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks, ICASSP 2021",
        "Qing-Long Zhang, Yu-Bin Yang",
    ),
    _Entry(
        "SCConv: Spatial and Channel Reconstruction Convolution for Feature Redundancy, CVPR 2023",
        "Jiafeng Li, Ying Wen, Lianghua He",
    ),
    _Entry(
        "Focal Modulation Networks, NeurIPS 2022",
        "Jianwei Yang, Chunyuan Li, Xiyang Dai, Jianfeng Gao",
    ),
    _Entry(
        "SCSA: Synergistic Effects Between Spatial and Channel Attention, Neurocomputing 2025",
        "Yunzhong Si, Huiying Xu, Xinzhong Zhu, Wenhao Zhang, Yao Dong, Yuxing Chen, Hongbo Li",
        "SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention",
    ),
    _Entry(
        "BiFormer: Vision Transformer with Bi-Level Routing Attention, CVPR 2023",
        "Lei Zhu, Xinjiang Wang, Zhanghan Ke, Wayne Zhang, Rynson Lau",
    ),
    _Entry(
        "Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions, arXiv 2021",
        "Yichao Liu, Zongru Shao, Nico Hoffmann",
        "Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions",
        eprint="2112.05561",
    ),
    _Entry(
        "Vision Transformer with Deformable Attention, CVPR 2022",
        "Zhuofan Xia, Xuran Pan, Shiji Song, Li Erran Li, Gao Huang",
    ),
    _Entry(
        "DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition, TMM 2023",
        "Jiayu Jiao, Yu-Ming Tang, Kun-Yu Lin, Yipeng Gao, Andy J. Ma, Yaowei Wang, Wei-Shi Zheng",
    ),
    _Entry(
        "No More Strided Convolutions or Pooling, ECML PKDD 2022",
        "Raja Sunkara, Tie Luo",
        "No More Strided Convolutions or Pooling: A New CNN Building Block for Low-Resolution Images and Small Objects",
    ),
    _Entry(
        "Slim-neck by GSConv, Journal of Real-Time Image Processing 2024",
        "Hulin Li, Jun Li, Hanbing Wei, Zheng Liu, Zhenfei Zhan, Qiliang Ren",
        "Slim-neck by GSConv: A Lightweight-Design for Real-Time Detector Architectures",
    ),
    _Entry(
        "Omni-Dimensional Dynamic Convolution, ICLR 2022",
        "Chao Li, Aojun Zhou, Anbang Yao",
    ),
    _Entry(
        "Deformable ConvNets v2: More Deformable, Better Results, CVPR 2019",
        "Xizhou Zhu, Han Hu, Stephen Lin, Jifeng Dai",
    ),
    _Entry(
        "Pinwheel-shaped Convolution and Scale-based Dynamic Loss, AAAI 2025",
        "Jiangnan Yang, Shuangli Liu, Jingjun Wu, Xinyu Su, Nan Hai, Xueli Huang",
        "Pinwheel-shaped Convolution and Scale-based Dynamic Loss for Infrared Small Target Detection",
    ),
    _Entry(
        "RFAConv: Innovating Spatial Attention and Standard Convolutional Operation, arXiv 2304.03198",
        "Xin Zhang, Chen Liu, Degang Yang, Tingting Song, Yichen Ye, Ke Li, Yingze Song",
    ),
    _Entry(
        "CGNet: A Light-weight Context Guided Network for Semantic Segmentation, IEEE TIP 2021",
        "Tianyi Wu, Sheng Tang, Rui Zhang, Juan Cao, Yongdong Zhang",
    ),
    _Entry(
        "Haar wavelet downsampling, Pattern Recognition 2023",
        "Guoping Xu, Wentao Liao, Xuan Zhang, Chang Li, Xinwei He, Xinglong Wu",
        "Haar Wavelet Downsampling: A Simple but Effective Downsampling Module for Semantic Segmentation",
    ),
    _Entry(
        "Wavelet Convolutions for Large Receptive Fields, ECCV 2024",
        "Shahaf E. Finder, Roy Amoyal, Eran Treister, Oren Freifeld",
    ),
    _Entry(
        "Diverse Branch Block: Building a Convolution as an Inception-like Unit, CVPR 2021",
        "Xiaohan Ding, Xiangyu Zhang, Jungong Han, Guiguang Ding",
    ),
    _Entry(
        "LDConv: Linear deformable convolution, Image and Vision Computing 2024",
        "Xin Zhang, Yingze Song, Tingting Song, Degang Yang, Yichen Ye, Jie Zhou, Liming Zhang",
        "LDConv: Linear Deformable Convolution for Improving Convolutional Neural Networks",
    ),
    _Entry(
        "Dynamic Snake Convolution based on Topological Geometric Constraints, ICCV 2023",
        "Yaolei Qi, Yuting He, Xiaoming Qi, Yuan Zhang, Guanyu Yang",
        "Dynamic Snake Convolution based on Topological Geometric Constraints for Tubular Structure Segmentation",
    ),
    _Entry(
        "InternImage: Exploring Large-Scale Vision Foundation Models with Deformable Convolutions, CVPR 2023",
        "Wenhai Wang, Jifeng Dai, Zhe Chen, Zhenhang Huang, Zhiqi Li, Xizhou Zhu, Xiaowei Hu, Tong "
        "Lu, Lewei Lu, Hongsheng Li, Xiaogang Wang, Yu Qiao",
    ),
    _Entry(
        "Frequency Dynamic Convolution for Dense Image Prediction, CVPR 2025",
        "Linwei Chen, Lin Gu, Liang Li, Chenggang Yan, Ying Fu",
    ),
    _Entry(
        "YOLOv9: Learning What You Want to Learn Using Programmable Gradient Information, ECCV 2024",
        "Chien-Yao Wang, I-Hau Yeh, Hong-Yuan Mark Liao",
    ),
    _Entry(
        "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks, CVPR 2023",
        "Jierun Chen, Shiu-hong Kao, Hao He, Weipeng Zhuo, Song Wen, Chul-Ho Lee, S.-H. Gary Chan",
    ),
    _Entry(
        "Rewrite the Stars, CVPR 2024",
        "Xu Ma, Xiyang Dai, Yue Bai, Yizhou Wang, Yun Fu",
    ),
    _Entry(
        "Rethinking Mobile Block for Efficient Attention-based Models, ICCV 2023",
        "Jiangning Zhang, Xiangtai Li, Jian Li, Liang Liu, Zhucun Xue, Boshen Zhang, Zhengkai Jiang, "
        "Tianxin Huang, Yabiao Wang, Chengjie Wang",
    ),
    _Entry(
        "DWRSeg: Rethinking Efficient Acquisition of Multi-scale Contextual Information, arXiv 2212.01173",
        "Haoran Wei, Xu Liu, Shouchun Xu, Zhongjian Dai, Yaping Dai, Xiangyang Xu",
        "DWRSeg: Rethinking Efficient Acquisition of Multi-scale Contextual Information for Real-time"
        " Semantic Segmentation",
    ),
    _Entry(
        "InceptionNeXt: When Inception Meets ConvNeXt, CVPR 2024",
        "Weihao Yu, Pan Zhou, Shuicheng Yan, Xinchao Wang",
    ),
    _Entry(
        "EfficientDet: Scalable and Efficient Object Detection, CVPR 2020",
        "Mingxing Tan, Ruoming Pang, Quoc V. Le",
    ),
    _Entry(
        "DEA-Net: Single image dehazing based on content-guided attention, IEEE TIP 2024",
        "Zixuan Chen, Zewei He, Zhe-Ming Lu",
        "DEA-Net: Single Image Dehazing Based on Detail-Enhanced Convolution and Content-Guided Attention",
    ),
    _Entry(
        "U-Net v2: Rethinking the Skip Connections of U-Net for Medical Image Segmentation, ISBI 2025",
        "Yaopeng Peng, Milan Sonka, Danny Z. Chen",
    ),
    _Entry(
        "AFPN: Asymptotic Feature Pyramid Network for Object Detection, IEEE SMC 2023",
        "Guoyu Yang, Jie Lei, Zhikuan Zhu, Siyu Cheng, Zunlei Feng, Ronghua Liang",
    ),
    _Entry(
        "Accurate leukocyte detection (MFDS-DETR), Computers in Biology and Medicine 2024",
        "Yifei Chen, Chenyan Zhang, Ben Chen, Yiyu Huang, Yifei Sun, Changmiao Wang, Xianjun Fu, "
        "Yuxing Dai, Feiwei Qin, Yong Peng, Yu Gao",
        "Accurate Leukocyte Detection Based on Deformable-DETR and Multi-Level Feature Fusion for "
        "Aiding Diagnosis of Blood Diseases",
    ),
    _Entry(
        "ASF-YOLO: attentional scale sequence fusion for cell instance segmentation, Image and Vision Computing 2024",
        "Ming Kang, Chee-Ming Ting, Fung Fung Ting, Raphaël C.-W. Phan",
        "ASF-YOLO: A Novel YOLO Model with Attentional Scale Sequence Fusion for Cell Instance Segmentation",
    ),
    _Entry(
        "DAMO-YOLO: A Report on Real-Time Object Detection Design, arXiv 2211.15444",
        "Xianzhe Xu, Yiqi Jiang, Weihua Chen, Yilun Huang, Yuan Zhang, Xiuyu Sun",
    ),
    _Entry(
        "Dynamic Head: Unifying Object Detection Heads with Attentions, CVPR 2021",
        "Xiyang Dai, Yinpeng Chen, Bin Xiao, Dongdong Chen, Mengchen Liu, Lu Yuan, Lei Zhang",
    ),
    _Entry(
        "Learning Spatial Fusion for Single-Shot Object Detection, arXiv 1911.09516",
        "Songtao Liu, Di Huang, Yunhong Wang",
    ),
    _Entry(
        "Distance-IoU Loss, AAAI 2020",
        "Zhaohui Zheng, Ping Wang, Wei Liu, Jinze Li, Rongguang Ye, Dongwei Ren",
        "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression",
    ),
    _Entry(
        "Generalized Intersection over Union, CVPR 2019",
        "Hamid Rezatofighi, Nathan Tsoi, JunYoung Gwak, Amir Sadeghian, Ian Reid, Silvio Savarese",
        "Generalized Intersection over Union: A Metric and a Loss for Bounding Box Regression",
    ),
    _Entry(
        "SIoU Loss, arXiv 2205.12740, 2022",
        "Zhora Gevorgyan",
        "SIoU Loss: More Powerful Learning for Bounding Box Regression",
    ),
    _Entry(
        "Focal and Efficient IOU Loss for Accurate Bounding Box Regression, Neurocomputing 2022",
        "Yi-Fan Zhang, Weiqiang Ren, Zhang Zhang, Zhen Jia, Liang Wang, Tieniu Tan",
    ),
    _Entry(
        "Wise-IoU, arXiv 2301.10051, 2023",
        "Zanjia Tong, Yuhang Chen, Zewei Xu, Rong Yu",
        "Wise-IoU: Bounding Box Regression Loss with Dynamic Focusing Mechanism",
    ),
    _Entry(
        "MPDIoU, arXiv 2307.07662, 2023",
        "Siliang Ma, Yong Xu",
        "MPDIoU: A Loss for Efficient and Accurate Bounding Box Regression",
    ),
    _Entry(
        "Shape-IoU, arXiv 2312.17663, 2023",
        "Hao Zhang, Shuaijie Zhang",
        "Shape-IoU: More Accurate Metric considering Bounding Box Shape and Scale",
    ),
    _Entry(
        "Powerful-IoU, Neural Networks 170, 2024",
        "Can Liu, Kaige Wang, Qing Li, Fazhan Zhao, Kun Zhao, Hongtu Ma",
        "Powerful-IoU: More Straightforward and Faster Bounding Box Regression Loss with a "
        "Nonmonotonic Focusing Mechanism",
    ),
    _Entry(
        "A Normalized Gaussian Wasserstein Distance, arXiv 2110.13389, 2021",
        "Jinwang Wang, Chang Xu, Wen Yang, Lei Yu",
        "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection",
    ),
    _Entry(
        "Alpha-IoU, NeurIPS 2021",
        "Jiabo He, Sarah Erfani, Xingjun Ma, James Bailey, Ying Chi, Xian-Sheng Hua",
        "Alpha-IoU: A Family of Power Intersection over Union Losses for Bounding Box Regression",
    ),
    _Entry(
        "Focal Loss for Dense Object Detection, ICCV 2017",
        "Tsung-Yi Lin, Priya Goyal, Ross Girshick, Kaiming He, Piotr Dollár",
    ),
    _Entry(
        "VarifocalNet, CVPR 2021",
        "Haoyang Zhang, Ying Wang, Feras Dayoub, Niko Sünderhauf",
        "VarifocalNet: An IoU-aware Dense Object Detector",
    ),
    _Entry(
        "Generalized Focal Loss, NeurIPS 2020",
        "Xiang Li, Wenhai Wang, Lijun Wu, Shuo Chen, Xiaolin Hu, Jun Li, Jinhui Tang, Jian Yang",
        "Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection",
    ),
    _Entry(
        "YOLO-FaceV2, arXiv 2208.02019, 2022",
        "Ziping Yu, Hongbo Huang, Weijun Chen, Yongxin Su, Yahui Liu, Xiuying Wang",
        "YOLO-FaceV2: A Scale and Occlusion Aware Face Detector",
    ),
)
PAPERS = {entry.text: entry.paper() for entry in _ENTRIES}
"""Papers by the text with which the catalogue names them."""
TIMM = Paper("PyTorch Image Models", ("Ross Wightman",), "", 2019)
"""What timm asks to be cited as; the architecture's own paper stands in its documentation."""


def find(text: str) -> Paper | None:
    """The paper that the catalogue names by a text, or None."""
    return PAPERS.get(text)
