"""The command line: ``detgraft COMMAND key=value ...``.

Exit status: 0 done, 1 the answer is no, 2 wrong usage, 130 stopped with Ctrl-C. Nothing heavy is imported before a
command needs it, so help answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from detgraft._version import __version__
from detgraft.errors import DetgraftError

Words = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE ...", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

app = typer.Typer(
    name="detgraft",
    help="Graft backbones and blocks onto stock Ultralytics detectors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"detgraft {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Graft backbones and blocks onto stock Ultralytics detectors."""


@app.command("train")
def _train(words: Words = None, json: Json = False) -> None:
    """Train: model=... data=... epochs=... and everything else that Ultralytics takes."""
    from detgraft.cli import run

    run.command("train", words or [], as_json=json)


@app.command("val")
def _val(words: Words = None, json: Json = False) -> None:
    """Validate: model=best.pt data=..."""
    from detgraft.cli import run

    run.command("val", words or [], as_json=json)


@app.command("predict")
def _predict(words: Words = None) -> None:
    """Predict: model=best.pt source=..."""
    from detgraft.cli import run

    run.command("predict", words or [])


@app.command("track")
def _track(words: Words = None) -> None:
    """Track objects in a video: model=best.pt source=..."""
    from detgraft.cli import run

    run.command("track", words or [])


@app.command("export")
def _export(words: Words = None) -> None:
    """Export: model=best.pt format=onnx"""
    from detgraft.cli import run

    run.command("export", words or [])


@app.command("benchmark")
def _benchmark(words: Words = None) -> None:
    """Benchmark the export formats: model=best.pt data=..."""
    from detgraft.cli import run

    run.command("benchmark", words or [])


@app.command("list")
def _list(pattern: Annotated[str, typer.Argument(metavar="[GLOB]")] = "*", json: Json = False) -> None:
    """List the grafts: detgraft list 'convnext*'"""
    from detgraft.cli import list as command

    command.command(pattern, as_json=json)


@app.command("show")
def _show(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    words: Words = None,
    json: Json = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the YAML that builds the model.")] = False,
) -> None:
    """Show what a model costs, layer by layer: detgraft show MODEL [imgsz=640] [nc=80]"""
    from detgraft.cli import show

    show.command(model, words or [], as_json=json, as_yaml=yaml)


@app.command("check")
def _check(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    words: Words = None,
    only: Annotated[str, typer.Option("--only", help="Run these checks only, with commas between.")] = "",
    json: Json = False,
) -> None:
    """Prove a model sound, portable and honestly priced: detgraft check MODEL [data=...] [imgsz=640]"""
    from detgraft.cli import check

    raise typer.Exit(0 if check.command(model, words or [], only, json) else 1)


@app.command("new")
def _new(
    kind: Annotated[str, typer.Argument(metavar="block")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    words: Words = None,
) -> None:
    """Write an own block or loss to begin with, and its test: detgraft new block NAME [channels=scaled] [out=FOLDER]"""
    from detgraft.cli import new

    new.command(kind, name, words or [])


@app.command("pretrain")
def _pretrain(words: Words = None) -> None:
    """Pretrain a backbone on pictures without labels: model=convnextv2_atto data=FOLDER epochs=..."""
    from detgraft.cli import pretrain

    pretrain.command(words or [])


@app.command("study")
def _study(
    action: Annotated[str, typer.Argument(metavar="init|run|retry|status|report|screen")],
    words: Words = None,
    json: Json = False,
) -> None:
    """Compare models over several seeds: detgraft study run FILE|FOLDER, or data=... base=... variants=... seeds=8"""
    from detgraft.cli import study

    raise typer.Exit(study.command(action, words or [], as_json=json))


@app.command("demo")
def _demo(words: Words = None) -> None:
    """Train a stock and a grafted model on made pictures, offline, and compare them: detgraft demo [out=FOLDER]"""
    from detgraft.cli import demo

    demo.command(words or [])


def main() -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):  # a console that cannot show Chinese must not end a training
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(standalone_mode=True)
    except DetgraftError as error:
        typer.echo(f"detgraft: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("detgraft: stopped. What was saved is kept; a training goes on with resume=.../last.pt", err=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
