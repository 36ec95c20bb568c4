"""The public face of a model: Ultralytics' own classes, which also take graft names."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import ultralytics
from torch import nn
from ultralytics.nn import tasks

from detgraft.catalog.plugins import load_plugins
from detgraft.errors import ArgumentError, DetgraftError
from detgraft.plan.weights_files import without_downloads
from detgraft.upstream.describe.description import Description, handed_on
from detgraft.upstream.describe.expressions import to_yaml
from detgraft.upstream.describe.text import LED_BY_TEXT
from detgraft.upstream.model.arguments import (
    check_counts,
    check_format,
    check_training,
    check_transfer,
    described,
    frozen_layers,
    random_text,
    refuse_random_freeze,
    warn_untrained,
    with_settings_file,
)
from detgraft.upstream.model.build import build, model_file, named_description
from detgraft.upstream.model.data import check_classes, prepare_data
from detgraft.upstream.model.features import refuse_embedding
from detgraft.upstream.model.opening import opening_error, restricted, trusting, trusting_workers
from detgraft.upstream.model.safetensors import ENDING, read_safetensors, write_safetensors
from detgraft.upstream.model.sizes import check_size
from detgraft.upstream.model.transfer import open_checkpoint, report_of, report_on
from detgraft.upstream.model.values import check_task, check_values, several_devices
from detgraft.upstream.parser.lower import names_weights
from detgraft.upstream.release.quiet import quiet
from detgraft.weights.transfer import TransferReport


def _has_rtdetr_head(model: object) -> bool:
    layers = getattr(model, "model", None)
    return isinstance(layers, nn.Sequential) and type(layers[-1]).__name__ == "RTDETRDecoder"


class _Grafting:
    """What detgraft adds to Ultralytics' model classes: ``data=`` may be a folder, and sizes are checked first."""

    task: str
    model: Any
    overrides: dict[str, Any]
    transferred: TransferReport | None = None
    trusted = False

    def transfer(self, weights: str | Path, minimum: float = 0.0) -> TransferReport:
        """Take over the weights of every layer that the grafts did not touch, now and whenever training starts.

        The trainer builds its own model, seeded, and loads the same weights into it before the first step; so does
        every DDP worker.

        Args:
            weights: A checkpoint of the base model, or of another graft of it.
            minimum: Smallest acceptable share of tensors, 0 to 1.

        Returns:
            What each layer received.

        Raises:
            WeightsError: Not a checkpoint, or less than ``minimum`` arrived; the model keeps its own weights then.
            ArgumentError: This model comes from a checkpoint and has its weights already, or a wrong ``minimum``.
        """
        if not str(self.overrides.get("model", "")).lower().endswith((".yaml", ".yml")):
            raise ArgumentError(
                "transfer= fills a model made from an expression or a YAML; a checkpoint has its weights"
            )
        if isinstance(minimum, bool) or not isinstance(minimum, (int, float)) or not 0 <= minimum <= 1:
            raise ArgumentError(f"transfer_min is a share of tensors from 0 to 1, found {minimum!r}")
        source = open_checkpoint(weights)
        trial = copy.deepcopy(self.model)
        trial.load(source)
        report = report_of(trial) or report_on(source, trial)
        report.require(minimum)
        self.model = trial
        self.overrides["pretrained"] = str(weights)
        self.transferred = report
        return report

    def export(self, **kwargs: Any) -> Any:
        """Export; see Ultralytics. ``format="safetensors"`` writes weights and description into one file, no pickle."""
        check_values("export", kwargs)
        if kwargs.get("format") is not None:
            check_format(kwargs["format"])
        if str(kwargs.get("format", "")).lower() != ENDING[1:]:
            return super().export(**kwargs)  # type: ignore[misc]
        source = Path(str(self.overrides.get("model") or "model"))
        folder = source.parent if source.is_file() else Path()
        return str(write_safetensors(self.model, folder / f"{source.name.removesuffix(source.suffix)}{ENDING}"))

    def _load(self, weights: str, task: str | None = None) -> None:
        """Open a checkpoint, as Ultralytics does, or a file without pickle."""
        if not str(weights).lower().endswith(ENDING):
            with restricted():
                self._load_checkpoint(weights, task)
            return
        opened: Any = read_safetensors(weights)
        self.model, self.task, self.ckpt, self.ckpt_path = opened, opened.task, {"model": opened}, str(weights)
        reset = self._reset_ckpt_args(opened.args)  # type: ignore[attr-defined]
        self.overrides = opened.args = {**reset, "model": str(weights), "task": opened.task}
        self.model_name = str(weights)

    def _load_checkpoint(self, weights: str, task: str | None) -> None:
        try:
            super()._load(weights, task)  # type: ignore[misc]
        except DetgraftError:
            raise
        except Exception as error:  # a file that opens and holds no model
            if not str(weights).lower().endswith(".pt") or not Path(weights).is_file():
                raise
            raise opening_error(weights, error) from error

    def train(self, trainer: Any = None, **kwargs: Any) -> Any:
        """Train; see Ultralytics. ``data`` may be a folder with ``train/images``, ``train/labels``, ``val/...``.

        Besides Ultralytics' arguments: ``freeze_random=True`` freezes layers that no checkpoint gave, too, and
        ``download=True`` lets a data YAML fetch its pictures or run its ``download:`` script.

        Raises:
            ArgumentError: An argument that Ultralytics would take for something else without a word.
        """
        check_values("train", kwargs)
        freeze_random = bool(kwargs.pop("freeze_random", False))
        settings = with_settings_file(kwargs)
        if len(settings) > len(kwargs):
            check_values("train", settings)
        check_training(self, settings)
        for key in ("pretrained", "resume", "distill_model"):  # Ultralytics' trainer opens these without restriction
            if isinstance(settings.get(key), (str, Path)) and Path(str(settings[key])).is_file():
                with trusting(self.trusted):
                    open_checkpoint(settings[key])
        if isinstance(self.model, nn.Module) and not settings.get("resume"):
            given = self._given(settings.get("pretrained", self.overrides.get("pretrained")))
            frozen = frozen_layers(self.model, settings.get("freeze"))
            if frozen and not freeze_random:
                refuse_random_freeze(self.model, frozen, given, settings["freeze"])
            tasks.LOGGER.info(random_text(self.model, given))
        self._prepare(kwargs, settings)
        workers = self.trusted and several_devices(settings.get("device"))
        with trusting(self.trusted), trusting_workers(workers):
            return super().train(trainer, **kwargs)  # type: ignore[misc]

    def val(self, validator: Any = None, **kwargs: Any) -> Any:
        """Validate; see Ultralytics. ``data`` and ``download`` as in :meth:`train`."""
        check_values("val", kwargs)
        warn_untrained(self, "val")
        self._prepare(kwargs, kwargs)
        return super().val(validator, **kwargs)  # type: ignore[misc]

    def predict(self, source: Any = None, stream: Any = False, predictor: Any = None, **kwargs: Any) -> Any:
        """Predict; see Ultralytics.

        Raises:
            ArgumentError: An embedding of a layer that has none.
        """
        check_values("predict", {**kwargs, "source": source})
        warn_untrained(self, "predict")
        if isinstance(self.model, nn.Module):
            refuse_embedding(self.model, kwargs.get("embed"))
        return super().predict(source, stream, predictor, **kwargs)  # type: ignore[misc]

    def benchmark(self, data: Any = None, format: str = "", verbose: Any = False, **kwargs: Any) -> Any:  # noqa: A002
        """Benchmark the export formats; see Ultralytics. ``data`` as in :meth:`train`."""
        kwargs["data"] = data
        check_values("benchmark", kwargs)
        self._prepare(kwargs, kwargs)
        return super().benchmark(kwargs.pop("data"), format, verbose, **kwargs)  # type: ignore[misc]

    def _given(self, pretrained: Any) -> dict[int, int]:
        """Return how many tensors of each layer a training would begin with from a checkpoint or a weights file."""
        name = str(self.overrides.get("model", ""))
        from_yaml = name.lower().endswith((".yaml", ".yml"))
        if not isinstance(pretrained, (str, Path)):
            if not from_yaml and pretrained is not False:
                return {i: len(layer.state_dict()) for i, layer in enumerate(self.model.model)}
            report = None
        elif self.transferred is not None and str(pretrained) == self.overrides.get("pretrained"):
            report = self.transferred
        else:
            source, trial = open_checkpoint(pretrained), copy.deepcopy(self.model)
            with quiet():
                trial.load(source)
            report = report_of(trial) or report_on(source, trial)
        given = {layer.index: layer.transferred for layer in report.layers} if report is not None else {}
        return given | {i: len(self.model.model[i].state_dict()) for i in (_filled_by_rows(name) if from_yaml else ())}

    def _prepare(self, kwargs: dict[str, Any], settings: Mapping[str, Any]) -> None:
        """Put the checked ``data=`` among the arguments, also where a file of settings names it."""
        data, download = settings.get("data"), bool(kwargs.pop("download", False))
        if data is None:
            return
        kwargs["data"] = prepare_data(data, self.task, settings.get("project"), download=download)
        if isinstance(data, (str, Path)) and str(kwargs["data"]) not in (str(data), str(Path(data).absolute())):
            tasks.LOGGER.info(f"data={data}: read through {kwargs['data']}, which was written for it")
        check_classes(settings.get("classes"), kwargs["data"])


def _filled_by_rows(name: str) -> list[int]:
    """The layers of a description whose row names a file with their weights."""
    with quiet():
        description = named_description(name)
    if description is None:
        return []
    return [row.index for row in description.plan.rows if names_weights(description.plan, row)]


class RTDETR(_Grafting, ultralytics.RTDETR):  # type: ignore[misc]
    """``ultralytics.RTDETR`` that also takes graft names.

    Args:
        model: A graft expression, a checkpoint, or a model YAML (own, stock or of the zoo).
        transfer: A checkpoint of the base model whose weights are taken over, see :meth:`transfer`.
        transfer_min: Smallest acceptable share of transferred tensors, 0 to 1.
        plugins: Python file(s) with own blocks.
        trust: Let a checkpoint run the code that it holds; see :mod:`detgraft.upstream.model.opening`.
    """

    def __init__(
        self,
        model: str | Path = "rtdetr-l.pt",
        *,
        transfer: str | Path | None = None,
        transfer_min: float = 0.0,
        plugins: str | Path | Sequence[str | Path] = (),
        trust: bool = False,
    ) -> None:
        check_transfer(transfer, transfer_min)
        load_plugins(plugins)
        description = named_description(model)
        with trusting(trust), handed_on(description):
            super().__init__(model_file(model) if description is None else description.text)
        with trusting(trust):
            if transfer is not None:
                self.transfer(transfer, transfer_min)
        self.trusted = trust


class YOLO(_Grafting, ultralytics.YOLO):  # type: ignore[misc]
    """``ultralytics.YOLO`` that also takes graft names; everything else is Ultralytics.

    A model with an RT-DETR head becomes an :class:`RTDETR`, with its own trainer and validator.

    Args:
        model: A graft expression such as ``yolo11n+convnextv2_atto+carafe``, a checkpoint, or a model YAML (own, stock
            or of the zoo).
        task: Task, guessed from the model by default.
        verbose: Whether to print the build log.
        transfer: A checkpoint of the base model whose weights are taken over, see :meth:`transfer`.
        transfer_min: Smallest acceptable share of transferred tensors, 0 to 1.
        plugins: Python file(s) with own blocks.
        trust: Let a checkpoint run the code that it holds; see :mod:`detgraft.upstream.model.opening`.

    Raises:
        DetgraftError: The model cannot be built, or too little was transferred.
    """

    def __init__(
        self,
        model: str | Path = "yolo11n.pt",
        task: str | None = None,
        verbose: bool = False,
        *,
        transfer: str | Path | None = None,
        transfer_min: float = 0.0,
        plugins: str | Path | Sequence[str | Path] = (),
        trust: bool = False,
    ) -> None:
        check_transfer(transfer, transfer_min)
        load_plugins(plugins)
        description = named_description(model)
        name = model_file(model) if description is None else description.text
        check_task(task, None if description is None else description.mapping, name)
        if transfer is not None and description is not None and _head_of(description).startswith(LED_BY_TEXT):
            raise ArgumentError(
                f"transfer= does not go with {name}: Ultralytics has a class of its own for models led by a text. Open "
                "it without, and give the checkpoint to its load(); weights follow moved layers there, too"
            )
        with trusting(trust), handed_on(description):
            if description is not None and _names_rtdetr_head(description):
                self.__class__ = RTDETR
                RTDETR.__init__(self, name)
            else:
                super().__init__(name, task=task, verbose=verbose)
                if _has_rtdetr_head(self.model) and not isinstance(self, ultralytics.RTDETR):
                    self.__class__ = RTDETR
        with trusting(trust):
            if transfer is not None:
                self.transfer(transfer, transfer_min)
        self.trusted = trust


def _names_rtdetr_head(description: Description) -> bool:
    return _head_of(description) == "RTDETRDecoder"


def _head_of(description: Description) -> str:
    head = description.mapping.get("head")
    last = head[-1] if isinstance(head, list) and head else None
    return str(last[2]) if isinstance(last, list) and len(last) == 4 else ""


def open_model(
    model: str | Path | nn.Module | dict[str, Any], nc: int | None = None, ch: int = 3, *, trust: bool = False
) -> nn.Module:
    """Return the Ultralytics model object behind anything that names a model, to be looked at.

    Nothing is fetched from the network for it: a row's ``imagenet`` or torchvision weights are left out.

    Args:
        model: A description (see :func:`build`), a checkpoint, an Ultralytics wrapper such as :class:`YOLO`, or the
            model object itself.
        nc: Number of classes, for descriptions.
        ch: Number of image channels, for descriptions.
        trust: Let a checkpoint run the code that it holds.

    Raises:
        DetgraftError: The description cannot be built, or there is no such checkpoint.
    """
    check_counts(nc=nc, ch=ch)
    if isinstance(model, ultralytics.engine.model.Model):
        inner: nn.Module = model.model
        return inner
    if isinstance(model, nn.Module):
        return model
    if not isinstance(model, dict) and str(model).lower().endswith((".pt", ENDING)):
        opened: nn.Module = YOLO(model, trust=trust).model
        return opened
    if isinstance(model, dict):
        return build(without_downloads(copy.deepcopy(described(model))), nc=nc, ch=ch)
    description = named_description(model, stock=True)
    if description is None:
        return build(model, nc=nc, ch=ch)
    return build(without_downloads(description.copied()), nc=nc, ch=ch)


def describe(model: str | Path, nc: int | None = None, *, trust: bool = False) -> str:
    """Return the YAML that builds a model, see :func:`detgraft.upstream.describe.expressions.to_yaml`.

    Args:
        model: A graft expression, a model YAML (own, stock or of the zoo), or a checkpoint.
        nc: Number of classes to write; the description's own by default.
        trust: Let a checkpoint run the code that it holds.

    Raises:
        DetgraftError: The model cannot be built.
    """
    with quiet():
        description = named_description(model, stock=True)
        mapping = dict(
            cast(Any, open_model(model if description is None else description.copied(), nc=nc, trust=trust)).yaml
        )
        if description is not None:  # the built model has forgotten the names of weights files
            mapping = {**description.copied(), "nc": mapping["nc"]}
    return to_yaml(mapping)


def thop_gflops(model: nn.Module, imgsz: int) -> float | None:
    """Return the figure that Ultralytics prints for a model, which thop counts; None where it has none.

    thop does not see functional convolutions, so the work of DynamicConv is missing from it.

    Args:
        model: An Ultralytics model.
        imgsz: Image size in pixels.
    """
    from ultralytics.utils.torch_utils import get_flops

    return float(get_flops(model, imgsz)) or None  # it returns 0 for every failure


def argument_names() -> tuple[list[str], list[str]]:
    """Return the names that may stand alone on the command line (switches), and all argument names."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    switches = [name for name, value in DEFAULT_CFG_DICT.items() if isinstance(value, bool)]
    return switches, [*DEFAULT_CFG_DICT, "device"]


def check_model_size(model: Any, imgsz: int | tuple[int, int]) -> None:
    """Raise when an image size is not a multiple of a wrapper's model stride; exported models are not checked.

    Raises:
        SizeError: Names the nearest sizes that work.
    """
    stride = getattr(model.model, "stride", None)
    if stride is not None:
        sizes = (imgsz,) if isinstance(imgsz, int) else imgsz
        check_size(sizes, int(max(stride.tolist())))
