"""Mutated model descriptions: how they are made, and the process that tries to build them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from combinations import TASKS
from hypothesis import strategies as st

SECONDS = 10.0
MEGABYTES = 4096.0

TINY = """# 一个小模型
nc: 3
scales:
  n: [0.5, 0.25, 1024]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, DynamicConv, [64, 3, 2]]
  - [-1, 2, C3k2_DynamicConv, [128, False, 0.25]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
head:
  - [-1, 1, CARAFE, []]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, C2f, [128]]
  - [[7, 4], 1, Detect, [nc]]
"""
STOCK = """nc: 2
activation: nn.SiLU()
scale: n
scales: {n: [0.33, 0.125, 512], s: [0.33, 0.25, 512]}
backbone:
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 1, Conv, [128, 3, 2]]
- [-1, 3, C2f, [128, True]]
- [-1, 1, Conv, [256, 3, 2]]
- [-1, 1, SPPF, [256, 5]]
head:
- [-1, 1, nn.Upsample, [None, 2, nearest]]
- [[-1, 2], 1, Concat, [1]]
- [[6, 4], 1, Detect, [nc]]
"""
BACKBONE = """nc: 2
backbone:
- [-1, 1, convnextv2_atto, [0.25]]
- [-1, 1, SPPF, [64, 5]]
head:
- [-1, 1, nn.Upsample, [None, 2, nearest]]
- [[-1, 3], 1, Concat, [1]]
- [[7, 5], 1, Detect, [nc]]
"""
SHELLS = """nc: 2
scales: {n: [0.5, 0.25, 256], m: [0.5, 0.25, 256]}
backbone:
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 2, C3k2_SE, [128, False]]
- [-1, 1, "C3k2(PinwheelConv(k=5),at=cv1)", [128]]
- [-1, 1, Conv, [256, 3, 2]]
- [-1, 1, C2PSA(EMA), [256]]
head:
- [-1, 1, Upsample, [None, 2, nearest]]
- [[-1, 2], 1, Concat_BiFPN, [1]]
- [-1, 1, C2f_Faster, [128, True]]
- [[7, 4], 1, Detect, [nc]]
"""
FUSING = """nc: 2
scales: {n: [0.5, 0.25, 256]}
losses: [wiou(version=3), varifocal]
backbone:
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 1, Conv, [128, 3, 2]]
- [-1, 1, DWR, [128]]
head:
- [-1, 1, nn.Upsample, [None, 2, nearest]]
- [[-1, 1], 1, BiFPNAdd, [64]]
- [[2, 3], 1, CGAFusion, [128]]
- [[5, 6], 1, ASFF, []]
- [[8, 9], 1, Detect, [nc]]
"""
SEEDS = (TINY, STOCK, BACKBONE, SHELLS, FUSING)

PYRAMID = """nc: 2
scales: {n: [0.33, 0.125, 512]}
backbone:
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 1, Conv, [64, 3, 2]]
- [-1, 1, SPPF, [64, 5]]
head:
- [-1, 1, nn.Upsample, [None, 2, nearest]]
- [[-1, 2], 1, Concat, [1]]
- [-1, 1, C2f, [64]]
- [[7, 4], 1, Detect, [nc]]
"""
"""The base whose neck the mutated fragments replace."""

PLAIN_NECK = """inputs: [P3, P4]
outputs: {P3: fine, P4: P4}
options: {width: 64, times: 2}
rows:
  - [P4, 1, nn.Upsample, [None, 2, nearest]]
  - joined: [[-1, P3], 1, BiFPNAdd, [width]]
  - repeat: times
    over: {joined: fine}
    rows:
      - [joined, 1, Conv, [width, 3, 1]]
      - fine: [[-1, joined], 1, Concat, [1]]
"""
ANY_NECK = """levels: [P2, P3, P4, P5]
inputs: [P(low..high)]
outputs: {P(low..high): out(low..high)}
options: {w2: 16, w3: 32, w4: 64, w5: 64}
rows:
  - out(high): [P(high), 1, Conv, [w(high), 1, 1]]
  - down: {k: [high-1, low]}
    rows:
      - [out(k+1), 1, nn.Upsample, [None, 2, nearest]]
      - [[P(k), -1], 1, BiFPNAdd, [w(k)]]
      - out(k): [-1, 1, C2f_SE, [w(k)]]
"""
NECKS = (PLAIN_NECK, ANY_NECK)

CANARY = "fuzz-canary"
HOSTILE = (
    f"__import__('os').system('touch {CANARY}')",
    f"!!python/object/apply:os.system ['touch {CANARY}']",
    f"!!python/object/new:subprocess.Popen [['touch', '{CANARY}']]",
    f"exec(\"open('{CANARY}','w')\")",
    f"open('{CANARY}', 'w')",
    "nn.Sequential(*[nn.ReLU()]*10**9)",
    "torch.hub.load('x', 'y')",
    "().__class__.__bases__[0].__subclasses__()",
    "../../../../etc/passwd",
)
NUMBERS = (0, -1, 1, 2, 3, 7, 64, 1000, 65535, 65536, 65537, 10**6, 2**31, 2**63, 10**30, -(10**30))
_VALUES = """0.5 -0.25 1e9 1e308 .inf -.inf .nan null ~ true False nc None 'None' '' [] {} [[]] [-1] [0,0] [-1,-1]
Conv C2f C3k2 CBLinear CBFuse nn.Linear nn.Identity nn.Conv3d Detect RTDETRDecoder Classify Segment Index AIFI d ch
C3k2_SE C2f-ECA C3k2(SE) C2f(CBAM(k=65535)) C3k2(SE,at=cv9) C3k2(C3k2(SE)) C2PSA_Faster C3k2(SE( RepNCSPELAN4_CAA
CARAFE DynamicConv convnextv2_atto repvit_m0_6 timm/resnet18 timm/nowhere timm/../x torchvision.ops.Permute
BiFPNAdd CGAFusion ASFF DyHead dyhead ZoomCat Zoom_cat SpatialFusion ScalSeq wiou focal p2 bifpn repeat up down over
low high k P3 P1 P9 P(low) P(low..high) P(high-9) out(k) out(low..high) w(k) w(low+low+low) (k) low+1 high-1 a(999)
{k:[low,high]} {low:[1,2]} {k:[0,900]} {k:[high,low]}
torchvision.ops.nms os.system builtins.eval 层 💥 &a *a !!str !!int {a:{a:{a:{}}}} ' " # : | >"""
_WORDS = tuple(_VALUES.split())
WORDS = (
    *(str(n) for n in NUMBERS),
    *_WORDS,
    *("e\u0301", "\u202e", "\x00", "<<: *a", "&a [*a]", "? a", "!!binary x", "- - - - -", "[" * 60, "(" * 300),
    *HOSTILE,
)
TOKENS = (
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "-",
    "\n",
    "  ",
    "\t",
    "#",
    "&x ",
    "*x",
    "!!set ",
    "'",
    '"',
    "- ",
    "\r\n",
    "\ufeff",
)


@st.composite
def yamls(draw: st.DrawFn) -> str:
    """A model YAML after some mutations of its words, lines and characters."""
    return _mutated(draw, draw(st.sampled_from(SEEDS)))


@st.composite
def necks(draw: st.DrawFn) -> str:
    """A fragment of a neck after some mutations."""
    return _mutated(draw, draw(st.sampled_from(NECKS)))


def _mutated(draw: st.DrawFn, text: str) -> str:
    for _ in range(draw(st.integers(1, 4))):
        text = draw(st.sampled_from((_word, _word, _word, _line, _token)))(draw, text)
    return text[:20_000]


def _word(draw: st.DrawFn, text: str) -> str:
    """Replace one value."""
    places = [i for i, c in enumerate(text) if c.isalnum() and (i == 0 or not _inside(text[i - 1]))]
    start = draw(st.sampled_from(places))
    end = start
    while end < len(text) and _inside(text[end]):
        end += 1
    new = draw(st.one_of(st.sampled_from(WORDS), st.integers().map(str), st.floats().map(str), st.text(max_size=8)))
    return text[:start] + new + text[end:]


def _inside(character: str) -> bool:
    return character.isalnum() or character in "_.-"


def _line(draw: st.DrawFn, text: str) -> str:
    """Repeat, drop, or move a line, or put one in."""
    lines = text.split("\n")
    here = draw(st.integers(0, len(lines) - 1))
    what = draw(st.sampled_from(("repeat", "drop", "move", "new")))
    if what == "repeat":
        lines[here:here] = [lines[here]] * draw(st.sampled_from((1, 2, 60)))
    elif what == "drop":
        del lines[here]
    elif what == "move":
        lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(here))
    else:
        values = [draw(st.sampled_from(WORDS)) for _ in range(3)]
        row = f"- [{values[0]}, {values[1]}, Conv, [{values[2]}]]"
        keys = [f"{key}: {draw(st.sampled_from(WORDS))}" for key in ("activation", "scale", "ch", "kpt_shape", "nc")]
        lines.insert(here, draw(st.sampled_from((row, *keys))))
    return "\n".join(lines)


def _token(draw: st.DrawFn, text: str) -> str:
    """Put a mark of the YAML grammar somewhere, or take a character out."""
    here = draw(st.integers(0, len(text) - 1))
    return text[:here] + draw(st.sampled_from((*TOKENS, ""))) + text[here + draw(st.integers(0, 1)) :]


_BASES = ("yolo11n", "yolov8n", "rtdetr-l", "yolo26n-seg", "yolo", "", "nowhere", "../yolo11n", "yolo11", "yolo11q")
_GRAFTS = (
    "carafe",
    "dynamicconv",
    "c3k2_dynamicconv",
    "convnextv2_atto",
    "simam",
    "timm/resnet18",
    "timm/x",
    "nothing",
    "c3k2",
    "csp",
    "c2psa_se",
    "c2f",
    "p2",
    "p6",
    "bifpn",
    "gfpn",
    "afpn",
    "neck",
    "dyhead",
    "asff",
    "wiou",
    "inner_wiou",
    "focal",
    "nwd",
)
_INNER = (
    "",
    "faster",
    "se",
    "carafe",
    "nothing",
    "c3k2",
    "cbam(k=65535)",
    "eca(eca(eca(eca)))",
    "pinwheelconv(k=5)",
    "se@head",
)
_SITES = ("", "@head", "@backbone", "@backbone.2", "@head.99999", "@neck", "@", "@@", "@层", "@backbone.-1")


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """A graft expression, often a wrong one. The valid base is rare, since a whole model is slow to build."""
    parts = [draw(st.sampled_from(_BASES))]
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.one_of(st.sampled_from(_GRAFTS), st.text(max_size=6)))
        pairs = draw(
            st.lists(
                st.tuples(
                    st.sampled_from(
                        (
                            "k",
                            "width",
                            "weights",
                            "scale",
                            "c_mid",
                            "x",
                            "",
                            "__class__",
                            "k_up",
                            "at",
                            "from",
                            "layers",
                            "ratio",
                        )
                    ),
                    st.sampled_from(WORDS),
                ),
                max_size=3,
            )
        )
        words = [draw(st.sampled_from(_INNER)), *(f"{k}={v}" for k, v in pairs)]
        arguments = "(" + ",".join(words if words[0] else words[1:]) + ")" if words[0] or pairs else ""
        parts.append(name + draw(st.sampled_from(_SITES)) + arguments)
    text = "+".join(parts)
    if draw(st.booleans()):
        here = draw(st.integers(0, len(text)))
        text = text[:here] + draw(st.one_of(st.sampled_from("()+@,=\"'. "), st.characters())) + text[here:]
    return text if "+" in text else text + "+"


class Worker:
    """The process that builds; started again when it had to be stopped.

    Args:
        folder: Where descriptions are written; the process works there, so a canary would appear there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    def _start(self) -> subprocess.Popen[str]:
        quiet = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "YOLO_VERBOSE": "false"}
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fuzz_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, **quiet},
            cwd=self.folder,
        )
        self._process = process
        assert self._read(process, 300) is not None, "the process that builds does not start"
        return process

    @staticmethod
    def _read(process: subprocess.Popen[str], seconds: float) -> dict[str, Any] | None:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if ready else ""
        return json.loads(line) if line else None

    def build(self, model: str, seconds: float, task: str = "") -> dict[str, Any]:
        """Let the process build a model, and train a step of its task; stop it when it takes too long."""
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps({"model": model, "task": task}) + "\n")
        process.stdin.flush()
        answer = self._read(process, seconds)
        if answer is None:
            died = process.poll()
            self.stop()
            answer = {"outcome": "died" if died is not None else "too slow", "text": f"status {died}", "executed": []}
        return answer

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def problem(worker: Worker, kind: str, text: str, patience: float = 1.0) -> tuple[str, str]:
    """Try a description; return what is wrong (or nothing) and the outcome.

    Args:
        worker: The process that builds.
        kind: ``yaml``, ``expression``, ``combination`` or ``neck``.
        text: The description.
        patience: The time limit is multiplied by this on a machine that is shared.
    """
    if kind == "yaml":
        path = worker.folder / "fuzzn.yaml"
        path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        answer = worker.build(str(path), SECONDS * patience)
    elif kind == "neck":
        (worker.folder / "fuzzbasen.yaml").write_text(PYRAMID, "utf-8")
        (worker.folder / "fuzzneck.yaml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
        answer = worker.build("fuzzbasen+neck(from=fuzzneck.yaml)", SECONDS * patience)
    elif kind == "combination":
        answer = worker.build(text, 3 * SECONDS * patience, TASKS[text.partition("+")[0]])
    else:
        answer = worker.build(text, SECONDS * patience)
    outcome = str(answer["outcome"])
    if (worker.folder / CANARY).exists() or answer["executed"]:
        return f"code was executed: {answer['executed']}", outcome
    if outcome not in ("built", "refused"):
        return f"{outcome}: {answer['text']}", outcome
    if answer["seconds"] > SECONDS * patience and kind != "combination":
        return f"took {answer['seconds']:.1f} s", outcome
    return "", outcome
