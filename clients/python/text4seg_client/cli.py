"""The command line ``text4seg``: from arguments to a client, and from outcomes to exit codes."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import text4seg
from text4seg.errors import Text4SegError
from text4seg.segmentation import CacheMode, LabelQuery, OpenQuery, PhraseQuery, Query, RefineMode
from text4seg_client.arguments import (
    chat_parser,
    images_parser,
    models_parser,
    serve_parser,
    top_parser,
    version_parser,
)
from text4seg_client.batch import Batch, run_batch
from text4seg_client.channel import DEFAULT_ADDRESS, Tls, check_address
from text4seg_client.client import Client
from text4seg_client.conversation import Talk, ask_once, converse
from text4seg_client.files import IMAGE_SUFFIXES
from text4seg_client.local_server import serve
from text4seg_client.models import models_json, models_table
from text4seg_client.retry import is_unreachable

FOUND, ERROR, USAGE, NOTHING_FOUND, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True, slots=True)
class _Command:
    parser: Callable[[], argparse.ArgumentParser]
    run: Callable[[argparse.ArgumentParser, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None: of this process.

    Returns:
        The exit code: 0 found, 3 nothing found, 1 error, 2 wrong usage, 130 interrupted.

    Raises:
        SystemExit: with code 2 for wrong usage, 0 for ``--help``.
    """
    top = top_parser(_COMMANDS)
    outer = top.parse_args(arguments)
    command = _COMMANDS[outer.command]
    parser = command.parser()
    # Intermixed: options may stand between IMAGE and the phrases, which sub-parsers of argparse do not allow.
    parsed = parser.parse_intermixed_args(outer.arguments)
    try:
        return command.run(parser, parsed)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`text4seg ... | head`); Python would complain once more while
        # exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except Text4SegError as error:
        print(f"text4seg: {explain(error, getattr(parsed, 'address', None))}", file=sys.stderr)
        return ERROR
    except OSError as error:
        print(f"text4seg: {error}", file=sys.stderr)
        return ERROR


def explain(error: Text4SegError, address: str | None) -> str:
    """One line for a person: what went wrong and, where nobody answers, what to do about it."""
    if is_unreachable(error):
        return f"no server answers at {address or DEFAULT_ADDRESS}; start one with `text4seg serve` ({error})"
    return str(error)


def _connect(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Client:
    files = (options.tls_ca, options.tls_cert, options.tls_key)
    tls = None
    if options.tls or options.tls_server_name or any(files):
        if bool(options.tls_cert) != bool(options.tls_key):
            parser.error("--tls-cert and --tls-key belong together")
        tls = Tls.from_files(*files, options.tls_server_name)
    key = Path(options.api_key_file).read_text(encoding="utf-8").strip() if options.api_key_file else None
    try:
        return Client(options.address or DEFAULT_ADDRESS, tls=tls, api_key=key, timeout_s=options.timeout)
    except ValueError as error:
        parser.error(str(error))


def _run_images(parser: argparse.ArgumentParser, options: argparse.Namespace, command: str) -> int:
    query = _query(parser, options)
    batch = Batch(
        command="segment" if command == "segment" else "detect",
        image=options.image,
        query=query,
        refine=RefineMode(options.refine),
        min_score=options.min_score,
        split=options.split,
        cache=CacheMode.BYPASS if options.no_cache else CacheMode.DEFAULT,
        seed=options.seed,
        json=options.json,
        output=options.output,
        progress=not options.quiet,
    )
    with _connect(parser, options) as client:
        try:
            outcome = run_batch(batch, client, lambda error: explain(error, options.address))
        except ValueError as error:
            parser.error(str(error))
    if outcome.failed:
        return ERROR
    return FOUND if outcome.found else NOTHING_FOUND


def _query(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Query:
    if options.phrases and (options.labels is not None or options.open):
        parser.error("phrases cannot be combined with --labels or --open")
    if options.open:
        return OpenQuery()
    if options.labels is not None:
        labels = tuple(label.strip() for label in options.labels.split(",") if label.strip())
        if not labels:
            parser.error("--labels needs at least one label")
        return LabelQuery(labels)
    if not options.phrases:
        parser.error("say what to look for: a phrase, --labels or --open")
    for phrase in options.phrases:
        if Path(phrase).suffix.lower() in IMAGE_SUFFIXES and Path(phrase).is_file():
            parser.error(
                f"{phrase} is a file, not a phrase; for several images, quote the pattern or name the folder"
            )
    return PhraseQuery(tuple(options.phrases))


def _run_chat(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.message is None and (options.json or not sys.stdin.isatty()):
        parser.error("give a message; a conversation needs a terminal, and no --json")
    talk = Talk(
        image=options.image,
        refine=RefineMode(options.refine),
        max_tokens=options.max_tokens,
        output=options.output,
        as_json=options.json,
        raw=options.raw,
    )
    with _connect(parser, options) as client:
        if options.message is None:
            converse(client, talk, lambda error: explain(error, options.address))
        else:
            ask_once(client, talk, options.message)
    return FOUND


def _run_serve(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        return serve(check_address(options.address), options.wait)
    except ValueError as error:
        parser.error(str(error))


def _run_models(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    print(models_json() if options.json else models_table())
    return FOUND


def _run_version(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    print(f"text4seg {text4seg.__version__}")
    if options.address:
        with _connect(parser, options) as client:
            info = client.model_info()
        rows, columns = info.generator.shape
        print(f"server    {info.versions.server}")
        details = f"{info.generator.engine}, {rows}x{columns} grid, {info.generator.codec}"
        print(f"model     {info.versions.model} ({details})")
        print(f"templates {info.versions.templates}")
        print(f"refiners  {', '.join(info.refiner_models) or 'none'}")
    return FOUND


_COMMANDS: Mapping[str, _Command] = {
    "segment": _Command(
        lambda: images_parser("segment", "Find the masks of what the phrases name."),
        lambda parser, options: _run_images(parser, options, "segment"),
    ),
    "detect": _Command(
        lambda: images_parser("detect", "Find the boxes of what the phrases name (mask2box)."),
        lambda parser, options: _run_images(parser, options, "detect"),
    ),
    "chat": _Command(chat_parser, _run_chat),
    "serve": _Command(serve_parser, _run_serve),
    "models": _Command(models_parser, _run_models),
    "version": _Command(version_parser, _run_version),
}
