"""FCMAE: a masked autoencoder for convolutional backbones.

Source: "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders" (arXiv:2301.00808),
facebookresearch/ConvNeXt-V2, models/fcmae.py (MIT code; its published weights are CC-BY-NC-4.0 and not used here).
Written from the paper's description.

Differences from the official code: any backbone that `MaskedEncoder` accepts; GRN in the encoder per image
(`masked_ops`); all weights of the decoder start from a normal of 0.02, where the official code lets some start from a
normal of 1; the decoder computes its last layers at hidden patches only, because the loss reads nothing else.

Shape suffixes: B images, C channels, H and W pixels, D decoder width, L patches, V visible and M hidden patches,
P = 32 * 32 * 3 pixel values of a patch.
"""

from __future__ import annotations

import torch
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.kernels.depthwise import depthwise
from detgraft.pretraining.cpu_products import linear
from detgraft.pretraining.masked_encoder import MaskedEncoder
from detgraft.pretraining.masking import (
    PATCH,
    grid_of,
    masked_loss,
    normalise_patches,
    patchify,
    split_indices,
    visible_count,
)
from detgraft.pretraining.visible import block_mlp, computable, visible_tokens

DECODER_WIDTH = 512
_INITIAL_STD = 0.02


class FCMAE(nn.Module):
    """Encoder, decoder and loss.

    Args:
        backbone: Three-channel backbone; it is changed in place (see `MaskedEncoder`) and stays usable.
        mask_ratio: Share of hidden patches, the same for every image.
        normalise: Predict each patch's pixels normalised to mean 0 and variance 1, as the paper does.
        dense: Compute every position everywhere: the slow reference form.

    Raises:
        CatalogError: If the backbone cannot be right under a mask.
        ArgumentError: For a mask ratio outside (0, 1).
    """

    def __init__(
        self, backbone: TimmBackbone, mask_ratio: float = 0.6, *, normalise: bool = True, dense: bool = False
    ) -> None:
        super().__init__()
        visible_count(10_000, mask_ratio)
        self.mask_ratio = mask_ratio
        self.normalise = normalise
        self.dense = dense
        self.encoder = MaskedEncoder(backbone)
        self.visible_only = computable(backbone) and not dense
        self.project = nn.Conv2d(self.encoder.channels, DECODER_WIDTH, 1)
        self.mask_token = nn.Parameter(torch.zeros(1, DECODER_WIDTH, 1, 1))
        self.decoder = ConvNeXtBlock(DECODER_WIDTH, DECODER_WIDTH, use_grn=True, ls_init_value=None)
        self.predict = nn.Conv2d(DECODER_WIDTH, PATCH * PATCH * 3, 1)
        for part in (self.project, self.decoder, self.predict):
            part.apply(_initialise)
        nn.init.normal_(self.mask_token, std=_INITIAL_STD)

    def forward(self, images_BCHW: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            images_BCHW: Images, sides multiples of 32.
            mask_BL: Bool, True where hidden; ``visible_count(L, mask_ratio)`` False entries in every row.
        """
        if self.dense:
            prediction_BLP = self.decode(self.encode(images_BCHW, mask_BL), mask_BL)
            return masked_loss(prediction_BLP, self.target(images_BCHW), mask_BL)
        visible_BV, hidden_BM = split_indices(mask_BL, visible_count(mask_BL.shape[1], self.mask_ratio))
        tokens_BVC = self._encode_tokens(images_BCHW, mask_BL, visible_BV)
        grid = grid_of(images_BCHW.shape[2], images_BCHW.shape[3])
        prediction_BMP = self._decode_hidden(tokens_BVC, visible_BV, hidden_BM, grid)
        patches_BLP = patchify(images_BCHW)
        wanted_BMP = patches_BLP.gather(1, hidden_BM[:, :, None].expand(-1, -1, patches_BLP.shape[2]))
        if self.normalise:
            wanted_BMP = normalise_patches(wanted_BMP)
        return (prediction_BMP.float() - wanted_BMP.float()).square().mean()

    def target(self, images_BCHW: Tensor) -> Tensor:
        """Return what is to be predicted for every patch, (B, L, P)."""
        patches_BLP = patchify(images_BCHW)
        return normalise_patches(patches_BLP) if self.normalise else patches_BLP

    def encode(self, images_BCHW: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the encoder's features (B, C, H / 32, W / 32), zero at hidden patches."""
        if not self.visible_only:
            features_BCHW: Tensor = self.encoder(images_BCHW, mask_BL)
            return features_BCHW
        grid = grid_of(images_BCHW.shape[2], images_BCHW.shape[3])
        visible_BV, _ = split_indices(mask_BL, visible_count(mask_BL.shape[1], self.mask_ratio))
        tokens_BVC = visible_tokens(self.encoder.backbone, images_BCHW, visible_BV)
        flat_BLC = tokens_BVC.new_zeros(*mask_BL.shape, tokens_BVC.shape[2])
        flat_BLC = flat_BLC.scatter(1, visible_BV[:, :, None].expand_as(tokens_BVC), tokens_BVC)
        return flat_BLC.transpose(1, 2).reshape(len(mask_BL), -1, *grid)

    def decode(self, features_BCHW: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the prediction for every patch, visible ones included: (B, L, P)."""
        projected = self.project(features_BCHW)
        hidden_B1HW = mask_BL.view(len(mask_BL), 1, *features_BCHW.shape[2:])
        mixed = self.decoder(torch.where(hidden_B1HW, self.mask_token.to(projected.dtype), projected))
        prediction_BPHW: Tensor = self.predict(mixed)
        return prediction_BPHW.flatten(2).transpose(1, 2)

    def _encode_tokens(self, images_BCHW: Tensor, mask_BL: Tensor, visible_BV: Tensor) -> Tensor:
        if self.visible_only:
            return visible_tokens(self.encoder.backbone, images_BCHW, visible_BV)
        features_BLC: Tensor = self.encoder(images_BCHW, mask_BL).flatten(2).transpose(1, 2)
        return features_BLC.gather(1, visible_BV[:, :, None].expand(-1, -1, features_BLC.shape[2]))

    def _decode_hidden(
        self, tokens_BVC: Tensor, visible_BV: Tensor, hidden_BM: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Return the prediction for the hidden patches only, (B, M, P); equal to :meth:`decode` there."""
        batch, patches = len(tokens_BVC), grid[0] * grid[1]
        projected = linear(tokens_BVC, self.project.weight.flatten(1), self.project.bias)
        first = torch.arange(batch, device=tokens_BVC.device)[:, None] * patches
        visible_rows, hidden_rows = (first + visible_BV).flatten(), (first + hidden_BM).flatten()
        token = self.mask_token.view(1, -1).to(projected.dtype)
        flat = token.expand(batch * patches, -1).index_copy(0, visible_rows, projected.reshape(-1, DECODER_WIDTH))
        conv = self.decoder.conv_dw
        mixed_BDHW = depthwise(flat.view(batch, *grid, -1).permute(0, 3, 1, 2), conv.weight)
        mixed = mixed_BDHW.permute(0, 2, 3, 1).reshape(batch, patches, -1) + conv.bias
        added = block_mlp(self.decoder, mixed, hidden_rows)
        # Behind the residual, a hidden patch's own input is the mask token.
        return linear(added + token, self.predict.weight.flatten(1), self.predict.bias)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
