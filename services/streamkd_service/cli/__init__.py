"""The command line. Only the command that was asked for is imported, so that `streamkd --help` is quick."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from streamkd.errors import InputError, StreamkdError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXIT_NEGATIVE = 1  # it worked, and the answer is no
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Command:
    """A command by name: where its function is, and its line in the overview."""

    words: tuple[str, ...]
    target: str  # "module:function" below this package
    summary: str

    def load(self) -> Callable[..., Any]:
        module, _, function = self.target.partition(":")
        loaded: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        return loaded


COMMANDS = (
    Command(("serve",), "live:serve", "Watch cameras, answer over HTTP, until Ctrl-C."),
    Command(("demo",), "live:demo", "Four live cameras on this machine, analysed; needs a clone of the repository."),
    Command(("check",), "live:check", "Try one camera and say what is wrong with it, if anything is."),
    Command(("top",), "live:top", "A live table of a running service, and its events as they happen."),
    Command(("replay",), "replay:replay", "What the live path would have said about recordings."),
    Command(("train",), "train:train", "Train a student on your own clips."),
    Command(("distil",), "distil:distil", "Distil a student by a recipe of objectives, and report on it."),
    Command(("teachers", "list"), "teachers:teachers_list", "Teachers, their members and how good they are."),
    Command(("teachers", "train"), "teachers:teachers_train", "Train a teacher from several members, cross-fitted."),
    Command(("teachers", "label"), "teachers:teachers_label", "Let a teacher label clips, through the cache."),
    Command(("teachers", "check"), "teachers:teachers_check", "Whether a teacher loads, fits the classes and answers."),
    Command(("evaluate", "actions"), "train:evaluate_actions", "Accuracy, AUC and calibration on labelled clips."),
    Command(("evaluate", "events"), "evaluate:events", "Events in joined streams: mAP, delay, actions by frame."),
    Command(("evaluate", "forecast"), "evaluate:forecast", "What is foretold of 1 and 2 s ahead, against what comes."),
    Command(("evaluate", "anomaly"), "replay:evaluate_anomaly", "AUC of the anomaly score on labelled streams."),
    Command(("explain",), "explain:explain", "Where the student looked in a recording or an event: a PNG."),
    Command(("refresh",), "remote:refresh", "Distil a better student from the running cameras, behind the gate."),
    Command(("clip",), "remote:clip", "Save the video clip of an event."),
    Command(("models", "list"), "remote:models_list", "The versions that a running service knows."),
    Command(("models", "promote"), "remote:models_promote", "Let a version serve."),
    Command(("models", "rollback"), "remote:models_rollback", "Let the version before serve again."),
    Command(
        ("bench", "distillation"), "bench_distillation:distillation", "What each objective of distillation is worth."
    ),
    Command(("bench", "api"), "bench_service:api", "Pages of events, /metrics and live clients of a busy service."),
    Command(("bench", "engine"), "bench:engine", "One frame of the student on one thread, against other runtimes."),
    Command(("bench", "decode"), "bench:decode", "What reading a stream costs at least, and what can be left out."),
    Command(("bench", "streams"), "bench:streams", "So many live cameras on this machine: cost and latency."),
    Command(("bench", "compare"), "bench:compare", "The same cameras and student as others would do it."),
    Command(("bench", "scale"), "bench_service:scale", "How cameras are placed on a thousand nodes: a simulation."),
    Command(("db", "upgrade"), "db:db_upgrade", "Bring the database to this version's schema."),
    Command(("config", "check"), "live:config_check", "Check a configuration file, and print it with secrets masked."),
    Command(("config", "reference"), "live:config_reference", "Print every key of the configuration, as Markdown."),
)
GROUPS = {
    "teachers": "Teachers: slow, large, and only asked about recordings.",
    "evaluate": "Measure a student or the anomaly score on labelled footage.",
    "models": "Versions of the student in a running service.",
    "db": "The database.",
    "bench": "Measure what it costs on this machine.",
    "config": "The configuration file.",
}


def build(arguments: Sequence[str], commands: Sequence[Command] = COMMANDS) -> typer.Typer:
    """The command tree, with the real function for the command named in `arguments` and placeholders for the rest."""
    options: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "no_args_is_help": True}
    app = typer.Typer(name="streamkd", help="Streaming video analytics with distilled models.", **options)
    groups = {name: typer.Typer(help=summary, **options) for name, summary in GROUPS.items()}
    words = tuple(argument for argument in arguments if not argument.startswith("-"))
    for command in commands:
        asked_for = words[: len(command.words)] == command.words
        function = command.load() if asked_for else _placeholder
        target = app if len(command.words) == 1 else groups[command.words[0]]
        target.command(command.words[-1], short_help=command.summary)(function)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    app.callback(invoke_without_command=True)(_version)
    return app


def _placeholder() -> None:
    raise AssertionError("only the overview shows this command")


def _version(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("streamkd"))
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one per way to end
    """Run a command; errors that a user may see are one line on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(build(words))
        outcome = command.main(args=words, prog_name="streamkd", standalone_mode=False)
    except StreamkdError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; Python must not complain again while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NEGATIVE
    except typer.Exit as left:
        return int(left.exit_code)
    except typer.Abort:
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.filename is None and error.errno not in _DISK_FULL:
            raise
        return _complain(_unusable(error))
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's own: a wrong option, a missing argument
            raise
        return _misused(error)
    return outcome if isinstance(outcome, int) else 0


def _unusable(error: OSError) -> InputError:
    """A file or folder that no command has an answer of its own for: a cache that is a file, a full disk."""
    what = "A file" if error.filename is None else str(error.filename)
    hint = "Check the path, that this user may write there, and the space on the disk."
    return InputError(f"{what} can't be used: {error.strerror}.", hint=hint)


def _misused(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # a command without its arguments: the overview
        error.show()
        return EXIT_ERROR
    context = getattr(error, "ctx", None)
    hint = f"See {'streamkd' if context is None else context.command_path} --help."
    return _complain(InputError(f"{error.format_message().rstrip('.')}.", hint=hint))


def _complain(error: StreamkdError) -> int:
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    hint = f" {error.hint}" if error.hint else ""
    line = " ".join(f"{error.message}{hint}".split())
    print(f"{red}error:{plain} {line}", file=sys.stderr)
    return EXIT_ERROR


__all__ = ["COMMANDS", "EXIT_ERROR", "EXIT_INTERRUPTED", "EXIT_NEGATIVE", "build", "main"]
