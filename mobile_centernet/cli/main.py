"""`mobile-centernet`: a group of commands, each of which is imported only when it is called.

Exit codes: 0 done; 1 `data check` found problems; 2 an error that the user can fix, told in one sentence; 3 done,
except for some bad items.
"""

import pkgutil
from importlib.metadata import entry_points

import click

from mobile_centernet import __version__
from mobile_centernet.errors import USER_ERROR, UserError, printable
from mobile_centernet.logs import setup_logging

PLUG_INS = "mobile_centernet.commands"

COMMANDS = {
    "audit": (
        "mobile_centernet.cli.project:audit",
        "Trace a version back to code, data and settings.",
    ),
    "bench": ("mobile_centernet.cli.bench:bench", "Measure latency, throughput and memory of models."),
    "bundle": ("mobile_centernet.cli.bundle:bundle", "Releases for devices: build, verify and inspect."),
    "data": ("mobile_centernet.cli.data:data", "Check a data set, look at it, hand it to other tools."),
    "doctor": (
        "mobile_centernet.cli.project:doctor",
        "Check this machine and project for what is missing.",
    ),
    "evaluate": ("mobile_centernet.cli.evaluate:evaluate", "Print mAP@0.5 and AP by class of a model on a data set."),
    "info": ("mobile_centernet.cli.info:info", "Print parameters and cost of models."),
    "params": (
        "mobile_centernet.cli.project:params",
        "Lay overlays (paper, street, quick, ...) over params.yaml.",
    ),
    "label": ("mobile_centernet.cli.label:label", "Export frames that devices sent for review, import the labels."),
    "promote": ("mobile_centernet.cli.project:promote", "Let the gate decide about the challenger, or roll back."),
    "refresh": ("mobile_centernet.cli.project:refresh", "Check every address in params.yaml for changed files."),
    "repro": ("mobile_centernet.cli.project:repro", "Run what is stale of the pipeline, from footage to a version."),
    "retrain": ("mobile_centernet.cli.project:retrain", "Refresh, train, judge, promote: what schedules call."),
    "train": ("mobile_centernet.cli.project:train", "Run what is stale of the pipeline up to the trained student."),
    "predict": ("mobile_centernet.cli.predict:predict", "Draw detections on images, a video or a camera's frames."),
    "trust": ("mobile_centernet.cli.trust:trust", "Keys and signed statements that decide what devices run."),
}
"""Where each command is, and its line in the group's help, which is shown without importing it."""

ON_DEVICES = ("onnxruntime", "securesystemslib", "tuf")
"""What the extra `edge` installs; any other module comes with `train`."""


class LazyGroup(click.Group):
    """The commands of COMMANDS; a UserError becomes one sentence on stderr and exit code 2.

    Packages above this one, which it may not import, add commands of their own by entry points of the group PLUG_INS.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *COMMANDS, *entry_points(group=PLUG_INS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = pkgutil.resolve_name(COMMANDS[cmd_name][0])
            return command
        for plug_in in entry_points(group=PLUG_INS, name=cmd_name):
            loaded: click.Command = plug_in.load()
            return loaded
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = {name: line for name, (_, line) in COMMANDS.items()}
        for plug_in in entry_points(group=PLUG_INS):  # their modules import nothing heavy at their head
            lines[plug_in.name] = plug_in.load().get_short_help_str(formatter.width - 16)
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))

    def invoke(self, ctx: click.Context) -> object:
        setup_logging()
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(printable(f"error: {error}"), err=True)
            return ctx.exit(USER_ERROR)
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module in ("", __name__.partition(".")[0]):
                raise
            extra = "edge" if module in ON_DEVICES else "train"
            needed = f"expected the module {module}, which this command needs, found none"
            click.echo(f"error: {needed}: pip install 'mobile-centernet[{extra}]'", err=True)
            return ctx.exit(USER_ERROR)


@click.group(cls=LazyGroup)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Mobile CenterNet: a small, distilled traffic detector for embedded devices."""


if __name__ == "__main__":
    main(prog_name="mobile-centernet")
