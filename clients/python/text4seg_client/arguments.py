"""What can be typed after ``text4seg``: one argument parser per command."""

import argparse
from collections.abc import Iterable

import text4seg
from text4seg.segmentation import RefineMode
from text4seg_client.channel import DEFAULT_ADDRESS

_DESCRIPTION = """\
Segment images by text.

commands:
  segment IMAGE PHRASE...   masks of what the phrases name
  detect IMAGE PHRASE...    boxes of what the phrases name
  chat IMAGE [MESSAGE]      ask about an image; without MESSAGE, a conversation
  serve                     start all services on this machine
  models                    language models with a profile, and the memory that they need
  version                   versions of the client and, with --address, of a server
"""

_EPILOG = """\
`text4seg COMMAND --help` explains a command.
exit codes: 0 found, 3 nothing found, 1 error, 2 wrong usage
"""

_IMAGES_EPILOG = """\
IMAGE is a file, a folder, or a pattern such as "photos/*.jpg" or "photos/**/*.png". Quote patterns:
unquoted, the shell replaces them by many names, and every name after the first would be taken for a phrase.

With several images, results are JSON lines or one table per image, and -o names a folder that gets one .png
and one .json per image. A file that cannot be used is reported, the others go on, and the exit code is 1.

exit codes: 0 found, 3 nothing found, 1 error, 2 wrong usage
"""


def top_parser(commands: Iterable[str]) -> argparse.ArgumentParser:
    """Splits a command from its arguments: attributes ``command`` and ``arguments``."""
    top = argparse.ArgumentParser(
        "text4seg",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="text4seg COMMAND ...",
    )
    top.add_argument("--version", action="version", version=f"text4seg {text4seg.__version__}")
    top.add_argument("command", choices=tuple(commands), metavar="COMMAND", help=argparse.SUPPRESS)
    top.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return top


def images_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Arguments of ``segment`` and ``detect``."""
    parser = argparse.ArgumentParser(
        f"text4seg {command}",
        usage=f"text4seg {command} IMAGE (PHRASE... | --labels A,B,C | --open) [options]",
        description=description,
        epilog=_IMAGES_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", metavar="IMAGE", help="a file, a folder, or a quoted pattern")
    parser.add_argument(
        "phrases", metavar="PHRASE", nargs="*", help='referring expressions: "the dog on the left"'
    )
    query = parser.add_mutually_exclusive_group()
    query.add_argument(
        "--labels", metavar="A,B,C", help="label every part of the image by one of these, or by none"
    )
    query.add_argument("--open", action="store_true", help="name what is there")
    parser.add_argument("--json", action="store_true", help="one JSON object per image, one per line")
    parser.add_argument("-o", "--output", metavar="PATH", help="overlay picture; for several images a folder")
    parser.add_argument(
        "--min-score", metavar="S", type=share, default=0.0, help="leave out what scores lower, 0 to 1"
    )
    parser.add_argument(
        "--split", action="store_true", help="split regions into connected components (a heuristic)"
    )
    parser.add_argument("--no-cache", action="store_true", help="compute anew, and store nothing")
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="of everything random (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_refine(parser, "auto" if command == "segment" else "none")
    _add_connection(parser)
    return parser


def chat_parser() -> argparse.ArgumentParser:
    """Arguments of ``chat``."""
    parser = argparse.ArgumentParser(
        "text4seg chat",
        usage="text4seg chat IMAGE [MESSAGE] [options]",
        description="Ask about an image. Without MESSAGE, and in a terminal, a conversation: /quit ends it.",
    )
    parser.add_argument("image", metavar="IMAGE", help="a file")
    parser.add_argument(
        "message", metavar="MESSAGE", nargs="?", help="one question; prints the answer and ends"
    )
    parser.add_argument("--json", action="store_true", help="the answer as one JSON object; needs MESSAGE")
    parser.add_argument("--raw", action="store_true", help="print descriptor blocks as the model writes them")
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="overlay picture of the regions in the last answer"
    )
    parser.add_argument("--max-tokens", metavar="N", type=positive, help="most tokens of an answer")
    _add_refine(parser, "none")
    _add_connection(parser)
    return parser


def serve_parser() -> argparse.ArgumentParser:
    """Arguments of ``serve``."""
    parser = argparse.ArgumentParser(
        "text4seg serve",
        description="Start all services here; Ctrl+C stops them. Environment variables configure them.",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=DEFAULT_ADDRESS,
        help=f"where to listen (default {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--wait", metavar="S", type=seconds, default=120.0, help="say so when not ready by then"
    )
    return parser


def models_parser() -> argparse.ArgumentParser:
    """Arguments of ``models``."""
    parser = argparse.ArgumentParser(
        "text4seg models",
        description="List the language models that have a profile: what serves them, and what memory they "
        "need. No server is asked.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def version_parser() -> argparse.ArgumentParser:
    """Arguments of ``version``."""
    parser = argparse.ArgumentParser("text4seg version", description="Print versions.")
    _add_connection(parser, address=None)
    return parser


def _add_refine(parser: argparse.ArgumentParser, default: str) -> None:
    refine = parser.add_mutually_exclusive_group()
    refine.add_argument(
        "--refine",
        choices=[mode.value for mode in RefineMode],
        default=default,
        help=f"whether to sharpen masks; auto falls back to coarse ones (default {default})",
    )
    refine.add_argument(
        "--no-refine", dest="refine", action="store_const", const="none", help="the same as --refine none"
    )


def _add_connection(parser: argparse.ArgumentParser, address: str | None = DEFAULT_ADDRESS) -> None:
    group = parser.add_argument_group("connection")
    known = f" (default {address})" if address else ""
    group.add_argument("--address", metavar="HOST:PORT", default=address, help=f"the server{known}")
    group.add_argument(
        "--timeout", metavar="S", type=seconds, default=60.0, help="seconds per image (default 60)"
    )
    group.add_argument("--tls", action="store_true", help="connect with TLS; implied by the options below")
    group.add_argument(
        "--tls-ca", metavar="FILE", help="authorities that the server is checked against (PEM)"
    )
    group.add_argument("--tls-cert", metavar="FILE", help="this client's certificate, for mTLS (PEM)")
    group.add_argument("--tls-key", metavar="FILE", help="the certificate's private key (PEM)")
    group.add_argument("--tls-server-name", metavar="NAME", help="name expected in the server's certificate")
    group.add_argument("--api-key-file", metavar="FILE", help="file that holds the API key")


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value


def seconds(text: str) -> float:
    """A positive, finite time."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return value


def seed(text: str) -> int:
    """A whole number, not negative."""
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError("must be from 0 to 2**63 - 1")
    return value


def positive(text: str) -> int:
    """A whole number, at least 1."""
    value = int(text)
    if not 0 < value < 2**31:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
