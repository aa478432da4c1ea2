"""The command `framewire`. Heavy imports happen inside the commands, so that `--help` is quick."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from contracts.errors import BadSetting, FramewireError, InferenceHung, InternalError
from contracts.serve import ServeSettings
from contracts.settings import Settings
from scripts.arguments import arguments_out_of_sight

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main(arguments: Sequence[str] | None = None) -> None:
    """The installed command: one line on standard error where something is wrong, never a trace."""
    status = guarded(lambda: _command(arguments))
    if status == InferenceHung.exit_status:
        # A thread is stuck inside a library, which an orderly exit may wait for without end.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def _command(arguments: Sequence[str] | None) -> int:
    given = arguments_out_of_sight() if arguments is None else arguments
    status: int = commands(given, standalone_mode=False)
    return status


def guarded(work: Callable[[], int]) -> int:
    """The exit status of the work, or that of what went wrong, which is said in one line."""
    try:
        return work()
    except click.exceptions.NoArgsIsHelpError as help_asked:
        click.echo(help_asked.format_message())
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "framewire"
        return complain(BadSetting(f"{error.format_message()} See `{where} --help`."))
    except FramewireError as error:
        return complain(error)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Exception as defect:
        named = InternalError(f"{type(defect).__name__}: {defect}")
        named.__cause__ = defect
        return complain(named)


def complain(error: FramewireError) -> int:
    """One line with the error's code; the exit status that belongs to it."""
    with contextlib.suppress(OSError):  # Nobody may be left to read it.
        click.echo(f"framewire: {error.code}: {error}", err=True)
        if isinstance(error, InternalError):
            click.echo(
                "This is a defect of framewire. With --log-level debug the trace shows.", err=True
            )
    if isinstance(error, InternalError):
        logging.getLogger("framewire").debug("", exc_info=error)
    return error.exit_status


_source_option = click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="URI",
    help="A video file, a webcam (0, /dev/video0), an image, a folder or a pattern (shots/*.jpg). "
    "May be given several times.",
)
_log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
_config_option = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="YAML with settings."
)


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each setting, named, described and defaulted as in `contracts.settings`."""
    return _source_option(_config_option(_options_of(Settings, command)))


def serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what `contracts.serve` adds."""
    return _options_of(ServeSettings, command)


def _options_of(model: type[BaseModel], command: Callable[..., Any]) -> Callable[..., Any]:
    for name, field in reversed(model.model_fields.items()):
        if name in ("sources", "serve", "filters"):
            continue
        text = (field.description or "").replace("`", "")
        if field.default is not None:
            text += f"  [default: {field.default}]"
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            switch = click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
            command = switch(command)
        else:
            command = click.option(flag, name, metavar="VALUE", help=text)(command)
    return command


def _settings_from(
    sources: tuple[str, ...], config: Path | None, *, needs_source: bool = True, **flags: Any
) -> Settings:
    """What `setting_options` collected, over the environment, over the file."""
    from scripts.configure import load_settings

    given = {name: value for name, value in flags.items() if value is not None}
    flags = {**given, **({"sources": sources} if sources else {})}
    return load_settings(flags, config, needs_source=needs_source)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="framewire", prog_name="framewire")
def commands() -> None:
    """Frames in, validated wire messages out.

    Reads video files, webcams and images, runs detect → crop → classify on every frame, and
    publishes one validated JSON message a frame over ZeroMQ and into files.

    \b
    framewire run --source clip.mp4 --jsonl results.jsonl --video annotated.mp4
    framewire listen tcp://127.0.0.1:5555
    framewire models
    """


@commands.command("run", context_settings=CONTEXT)
@_log_level_option
@setting_options
def run_command(log_level: str, **given: Any) -> int:
    """Run the pipeline over one or more sources until they end, or until Ctrl-C.

    Each setting has the same name here, in the YAML file of --config and in the environment
    (FRAMEWIRE_MIN_SCORE). Exit status: 0 all well, 1 something failed on the way and is counted in
    the summary, 2 it was asked wrongly, 3 it could not start.
    """
    settings = _settings_from(**given)
    from scripts.console import set_up_logging
    from scripts.run import run

    set_up_logging(log_level)
    return run(settings)


@commands.command("serve", context_settings=CONTEXT)
@_log_level_option
@setting_options
@serve_options
def serve_command(log_level: str, **given: Any) -> int:
    """Answer pictures over HTTP, beside the sources, until Ctrl-C or SIGTERM.

    The settings of `framewire run` hold here too, but no source is needed: they come and go over
    HTTP. Those of the service are under `serve:` in the YAML file, and FRAMEWIRE_SERVE_PORT in the
    environment. Exit status: 0 it was stopped and all is answered, 1 something broke it off, 2 it
    was asked wrongly, 3 it could not start.
    """
    named = {name: given.pop(name) for name in ServeSettings.model_fields}
    serve = {name: value for name, value in named.items() if value is not None}
    settings = _settings_from(**given, serve=serve or None, needs_source=False)
    from scripts.console import set_up_logging
    from scripts.serve import serve as run_service

    set_up_logging(log_level)
    return run_service(settings)


@commands.command("api-key", context_settings=CONTEXT)
@click.argument("name")
@click.option("--scopes", default="detect,read", show_default=True, help="Of detect, read, admin.")
def api_key_command(name: str, scopes: str) -> int:
    """Make a key for NAME, and its line for the file of `framewire serve --api-keys FILE`.

    The key is shown this once: the file has only its hash.
    """
    from sinks.http.keys import new_key

    key, line = new_key(name, scopes.split(","))
    click.echo(f"key   {key}\nline  {line}")
    return 0


@commands.command("verify", context_settings=CONTEXT)
@click.option(
    "--frames",
    "n_frames",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Of each source.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often each is timed, in turn.",
)
@setting_options
def verify_command(n_frames: int, rounds: int, **given: Any) -> int:
    """Compare what can compute the models here, on frames of the sources.

    Prints, for each runtime and precision, its time for a frame (median of the rounds, and their
    range) and how far it is from the reference in float32. --runtime names one to compare; else
    all are that start in seconds. Exit status 1 where one is outside the bounds.
    """
    settings = _settings_from(**given)
    from scripts.console import set_up_logging
    from scripts.tables import standard_output
    from scripts.verify import verify

    set_up_logging("warning")
    return verify(settings, n_frames, rounds, standard_output())


def key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """For a run that speaks CURVE: `key` and `publisher_key`."""
    a_file = click.Path(path_type=Path)
    own = click.option("--key", type=a_file, help="Own .key_secret, where the run is encrypted.")
    its = click.option("--publisher-key", type=a_file, help="The run's .key, given with --key.")
    return own(its(command))


@commands.group("keys", context_settings=CONTEXT)
def keys_commands() -> None:
    """Keys for encrypted ZeroMQ connections: see docs/wire.md, Security."""


@keys_commands.command("new", context_settings=CONTEXT)
@click.argument("path", type=click.Path(path_type=Path))
def new_keys_command(path: Path) -> int:
    """Make PATH.key, to be given to others, and PATH.key_secret, to be kept."""
    from scripts.keys import new_keys

    public, secret = new_keys(path)
    click.echo(f"{public}  to be given to others\n{secret}  to be kept")
    return 0


@commands.command("listen", context_settings=CONTEXT)
@click.argument("endpoint", default="tcp://127.0.0.1:5555")
@click.option("--topic", default="", help="Only topics that begin so: frame/, frame/cam1/, end/.")
@click.option("--json", "as_json", is_flag=True, help="Print the messages as they come.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many messages.")
@click.option("--until-end", is_flag=True, help="Stop when every source that was heard has ended.")
@click.option("--stats", is_flag=True, help="Print rate, latency and losses each second instead.")
@click.option(
    "--timeout",
    "silence_s",
    type=click.FloatRange(min=1.5),
    help="Stop when for so many seconds not even a heartbeat came.",
)
@key_options
def listen_command(endpoint: str, topic: str, **how: Any) -> int:
    """Subscribe to ENDPOINT and print one line a message.

    Exit status: 0 all well, 1 a message could not be read or was lost on the way, 3 nothing came
    for --timeout seconds. Ctrl-C is 0.
    """
    from scripts.listen import listen

    return listen(endpoint, topic, **how)


@commands.command("status", context_settings=CONTEXT)
@click.argument("endpoint", default="tcp://127.0.0.1:5555")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=3.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the message as it comes.")
@key_options
def status_command(endpoint: str, timeout: float, as_json: bool, **keys: Path | None) -> int:
    """Show how the run that publishes on ENDPOINT is: each source's state, rate and account.

    Exit status: 0 it is ready, 1 it isn't, 3 nothing came within the timeout (seconds).
    """
    from rich.console import Console

    from scripts.status import show_status

    return show_status(endpoint, timeout, as_json, Console(), **keys)


@commands.command("check", context_settings=CONTEXT)
@click.argument("url")
@click.option(
    "--path", default="/detect", show_default=True, help="Used where URL has no path of its own."
)
@click.option("--field", default="file", show_default=True, help="Of the form, for the picture.")
@click.option("--raw", is_flag=True, help="The picture is the whole body, not in a form.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Sent with each request; in VALUE, ${NAME} is a variable and ${file:PATH} a file.",
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=10.0, show_default=True
)
@click.option(
    "--box-format",
    "promised",
    default="xyxy",
    show_default=True,
    help="What four numbers in a list are: xyxy, xywh, cxcywh or yxyx, in pixels; with -fractions "
    "behind it, in fractions of the picture.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="Has something on it that the service knows; else one is drawn.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings for a program.")
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("out/check"),
    show_default=True,
    help="Gets the files that the curl lines upload.",
)
def check_command(
    url: str, promised: str, image: Path | None, as_json: bool, folder: Path, **how: Any
) -> int:
    """Ask the vision service at URL good and bad questions, and name its bugs.

    Any service that takes a picture by POST: at most 60 requests, one after the other. Says what is
    wrong first, with a curl line that shows it. Exit status: 0 no bug, 1 bugs, 3 nobody answers.
    """
    from rich.console import Console

    from scripts.check_service import check_service
    from scripts.review.client import Target

    console = Console(highlight=False)
    return check_service(Target(url, **how), console, promised, image, as_json, folder)


@commands.command("models", context_settings=CONTEXT)
def models_command() -> int:
    """List the models, where their weights come from, their hashes and licences."""
    from scripts.models import show_models
    from scripts.tables import standard_output

    show_models(standard_output())
    return 0


if __name__ == "__main__":
    main()
