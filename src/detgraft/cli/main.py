"""The command line: ``detgraft COMMAND key=value ...``.

Exit status: 0 done, 1 the answer is no, 2 wrong input, 130 stopped with Ctrl-C; ``border.py`` holds that. Nothing heavy
is imported before a command needs it, so help answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from detgraft._version import __version__
from detgraft.cli.border import Border, give_answer, is_exit, tidy
from detgraft.cli.complete import complete_graft, complete_model, complete_word
from detgraft.cli.keys import FILES, KeyedCommand

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", show_default=False, autocompletion=complete_word),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", show_default=False, autocompletion=complete_model)]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

app = typer.Typer(
    name="detgraft",
    help="Graft backbones and blocks onto stock Ultralytics detectors.",
    no_args_is_help=True,
    cls=Border,
    rich_markup_mode=None,
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


@app.command("train", cls=KeyedCommand)
def _train(words: Words = None, json: Json = False) -> None:
    """Train: model=... data=... epochs=... and everything else that Ultralytics takes."""
    from detgraft.cli import run

    run.command("train", words or [], as_json=json)


@app.command("val", cls=KeyedCommand)
def _val(words: Words = None, json: Json = False) -> None:
    """Validate: model=best.pt data=..."""
    from detgraft.cli import run

    run.command("val", words or [], as_json=json)


@app.command("predict", cls=KeyedCommand)
def _predict(words: Words = None) -> None:
    """Predict: model=best.pt source=..."""
    from detgraft.cli import run

    run.command("predict", words or [])


@app.command("track", cls=KeyedCommand)
def _track(words: Words = None) -> None:
    """Track objects in a video: model=best.pt source=..."""
    from detgraft.cli import run

    run.command("track", words or [])


@app.command("export", cls=KeyedCommand)
def _export(words: Words = None) -> None:
    """Export: model=best.pt format=onnx"""
    from detgraft.cli import run

    run.command("export", words or [])


@app.command("benchmark", cls=KeyedCommand)
def _benchmark(words: Words = None) -> None:
    """Benchmark the export formats: model=best.pt data=..."""
    from detgraft.cli import run

    run.command("benchmark", words or [])


@app.command("list", cls=KeyedCommand)
def _list(
    pattern: Annotated[str, typer.Argument(metavar="WORD", show_default=False, autocompletion=complete_graft)] = "*",
    json: Json = False,
) -> None:
    """List the grafts by name, site or family: detgraft list 'convnext*', upsample, 注意力"""
    from detgraft.cli import list as command

    command.command(pattern, as_json=json)


@app.command("show", cls=KeyedCommand)
def _show(
    model: Model,
    words: Words = None,
    json: Json = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the YAML that builds the model.")] = False,
) -> None:
    """Show what a model costs, layer by layer, or draw it: detgraft show MODEL [MODEL] [imgsz=640] [--html]"""
    from detgraft.cli import show

    show.command(model, words or [], as_json=json, as_yaml=yaml)


@app.command("check", cls=KeyedCommand)
def _check(
    model: Model,
    words: Words = None,
    only: Annotated[str, typer.Option("--only", help="Run these checks only, with commas between.")] = "",
    json: Json = False,
) -> None:
    """Prove a model sound, portable and honestly priced: detgraft check MODEL [data=...] [imgsz=640]"""
    from detgraft.cli import check

    raise typer.Exit(0 if check.command(model, words or [], only, json) else 1)


@app.command("compare", cls=KeyedCommand)
def _compare(
    first: Annotated[str, typer.Argument(metavar="A.pt", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B.pt", show_default=False)],
    words: Words = None,
    json: Json = False,
) -> None:
    """Draw two trained models beside the truth where they differ most: detgraft compare A.pt B.pt source=FOLDER"""
    from detgraft.cli import compare

    compare.command(first, second, words or [], as_json=json)


@app.command("new", cls=KeyedCommand)
def _new(
    kind: Annotated[str, typer.Argument(metavar="block")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    words: Words = None,
) -> None:
    """Write an own block or loss to begin with, and its test: detgraft new block NAME [channels=scaled] [out=FOLDER]"""
    from detgraft.cli import new

    new.command(kind, name, words or [])


@app.command("pretrain", cls=KeyedCommand)
def _pretrain(words: Words = None) -> None:
    """Pretrain a backbone on pictures without labels: model=convnextv2_atto data=FOLDER epochs=..."""
    from detgraft.cli import pretrain

    pretrain.command(words or [])


@app.command("study", cls=KeyedCommand)
def _study(
    action: Annotated[str, typer.Argument(metavar="init|run|retry|status|report|export|screen")],
    words: Words = None,
    json: Json = False,
) -> None:
    """Compare models over several seeds: detgraft study run FILE|FOLDER, or data=... base=... variants=... seeds=8"""
    from detgraft.cli import study

    raise typer.Exit(study.command(action, words or [], as_json=json))


@app.command("demo", cls=KeyedCommand)
def _demo(words: Words = None) -> None:
    """Train a stock and a grafted model on made pictures, offline, and compare them: detgraft demo [out=FOLDER]"""
    from detgraft.cli import demo

    demo.command(words or [])


@app.command("env", cls=KeyedCommand)
def _env(json: Json = False) -> None:
    """Print what a bug report needs: versions, hardware, settings."""
    from detgraft.cli import env

    env.command(as_json=json)


def _options() -> dict[str, list[str]]:
    """The options of every command."""
    group: Any = typer.main.get_command(app)
    shared = ["--help", "-h"]
    return {
        name: [*shared, *(opt for parameter in command.params for opt in parameter.opts if opt.startswith("-"))]
        for name, command in group.commands.items()
    }


def main() -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):  # a console that cannot show Chinese must not end a training
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = app(args=tidy(sys.argv[1:], _options(), FILES), prog_name="detgraft", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        raise SystemExit(error.exit_code if is_exit(error) else give_answer(error)) from None  # type: ignore[attr-defined]
    raise SystemExit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
