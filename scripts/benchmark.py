"""Reproduce the figures of the README.

python scripts/benchmark.py scoreboard   how many correspondences are found, admitted open, or wrong in silence
python scripts/benchmark.py person       how many answers a person who knows the truth has to give until all is settled
python scripts/benchmark.py laws         whether questions can be answered, are few, and offer what is true
python scripts/benchmark.py speed        times beside transformers, safetensors and torch on the same keys
python scripts/benchmark.py convert      files converted beside files copied, and beside files loaded and saved
python scripts/benchmark.py save         a model saved beside safetensors' own writer
python scripts/benchmark.py audit        times of the audit of two large trees, and of a scan of 5,000 files
python scripts/benchmark.py load         a renamed checkpoint onto a meta model, beside safetensors and transformers
python scripts/benchmark.py workers      a conversion by two worker processes beside one, and by a dask cluster
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from cases import Case, read_cases
from person import Answers, tell
from question_laws import LAWS as QUESTION_LAWS
from question_laws import broken_laws
from scoring import LAWS, Score, score
from speed import Figure, figures
from speed_audit import audit_figures
from speed_convert import convert_figures, save_figures
from speed_load import load_figures
from speed_workers import worker_figures

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__)
CORPORA = ("transformers", "pairs", "originals", "real_text", "real_vision", "single_files", "synthetic", "scale")
CORPORA += ("converters",)
SUBSETS = ("all", "renames", "conversions")


@app.command()
def scoreboard(
    corpora: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(CORPORA)}; the first five, if none is named.")
    ] = None,
    subset: Annotated[
        str, typer.Option(help="all, renames or conversions: cases without or with tensor changes.")
    ] = "all",
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
    step: Annotated[int, typer.Option(help="Every so many cases.")] = 1,
    offset: Annotated[int, typer.Option(help="The first of them.")] = 0,
    ordered: Annotated[bool, typer.Option(help="Keep the checkpoint's order of definition where it has one.")] = False,
    show: Annotated[int, typer.Option(help="How many imperfect cases to name.")] = 0,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Score suggestions on the corpora in data/corpus."""
    if subset not in SUBSETS or not set(corpora or ()) <= set(CORPORA):
        raise typer.BadParameter(f"subsets are {', '.join(SUBSETS)}; corpora are {', '.join(CORPORA)}")
    figures = {}
    for corpus in corpora or CORPORA[:5]:
        total, left = Score(), show
        for case in islice(read_cases(corpus, only), offset, None, step):
            if subset == "all" or (subset == "renames") is case.renames_only:
                one = _scored(case, ordered)
                total += one
                left -= _name_imperfect(case, one) if left > 0 else 0
        if total.cases:
            figures[corpus] = total.as_dict()
            print("\n".join(table(f"{corpus}, {subset}", total)), flush=True)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2))


@app.command()
def person(
    corpora: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(CORPORA)}; the first five, if none is named.")
    ] = None,
    step: Annotated[int, typer.Option(help="Every so many cases.")] = 1,
    offset: Annotated[int, typer.Option(help="The first of them.")] = 0,
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
) -> None:
    """Let a person who knows the truth answer what is asked about the corpora in data/corpus."""
    if not set(corpora or ()) <= set(CORPORA):
        raise typer.BadParameter(f"corpora are {', '.join(CORPORA)}")
    for corpus in corpora or CORPORA[:5]:
        total = Answers()
        for case in islice(read_cases(corpus, only), offset, None, step):
            told = tell(case)
            total.add(told)
            if told.result != "solved" or told.harm:
                print(f"  {case.name}: {told.result}, harm {told.harm} {told.question or ''}", file=sys.stderr)
        print("\n".join(total.table(corpus)), flush=True)


@app.command()
def laws(
    corpora: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(CORPORA)}; the first five, if none is named.")
    ] = None,
    step: Annotated[int, typer.Option(help="Every so many cases.")] = 1,
    offset: Annotated[int, typer.Option(help="The first of them.")] = 0,
    only: Annotated[str, typer.Option(help="Only cases whose name contains this.")] = "",
    most: Annotated[int, typer.Option(help="Of how many questions of a case every option is tried.")] = 2,
) -> None:
    """Check the laws of questions on the corpora in data/corpus."""
    for corpus in corpora or CORPORA[:5]:
        looked, kept = Counter[str](), Counter[str]()
        for case in islice(read_cases(corpus, only), offset, None, step):
            found, broken = broken_laws(case, most)
            looked += found
            kept += found - Counter(text.partition(":")[0] for text in dict.fromkeys(broken))
            for text in broken:
                print(f"  {case.name}: {text}", file=sys.stderr)
        print(f"{corpus}: {looked['few']} cases")
        for law in (law for law in QUESTION_LAWS if looked[law]):
            print(
                f"  {law:<11} {kept[law]:>7,} of {looked[law]:>7,}  {kept[law] / max(1, looked[law]):7.2%}", flush=True
            )


def _scored(case: Case, ordered: bool) -> Score:
    """The score of a case; a crash is a figure too, and does not end the run."""
    try:
        return score(case, ordered)
    except Exception:
        print(f"  {case.name} crashed\n{traceback.format_exc(limit=-2)}", file=sys.stderr)
        return Score(cases=1, crashed=1, groups=len(case.groups))


def _name_imperfect(case: Case, one: Score) -> bool:
    if one.perfect and all(one.laws[law] for law in LAWS):
        return False
    broken = [law for law in LAWS if not one.laws[law]]
    print(f"  {case.name}: right {one.right}/{one.groups}, silent {one.silent}, broken laws {broken}", file=sys.stderr)
    return True


def table(name: str, total: Score) -> list[str]:
    """The figures of one corpus, for a terminal of 80 columns."""

    def share(count: int, of: int) -> str:
        return f"{count:>7,} of {of:>7,}  {count / max(1, of):7.2%}"

    return [
        f"{name}: {total.cases} cases, {total.seconds:.1f} s in suggest",
        *([f"  CRASHED                  {total.crashed:>7,}"] if total.crashed else []),
        f"  solved, nobody asked     {share(total.solved, total.cases)}",
        f"  perfect cases            {share(total.perfect, total.cases)}",
        f"  groups right             {share(total.right, total.groups)}",
        f"  … and marked certain     {share(total.sure, total.groups)}",
        f"  SILENT: wrong, certain   {total.silent:>7,}",
        f"  flagged as open          {total.flagged:>7,}  (unlisted {total.unlisted}, with the truth among the rivals "
        f"{total.truth_listed})",
        f"  operations by numbers    {total.numbers_wrong:>7,} wrong of {total.told:,} that are told exactly, "
        f"{total.untold:,} are not",
        *(f"  law {law:<11}          {share(total.laws[law], total.cases)}" for law in LAWS),
        f"  transforms               {total.transforms:>7,}",
        *([_by_hand(total)] if total.with_hand else []),
    ]


def _by_hand(total: Score) -> str:
    share = total.no_more_than_by_hand / total.with_hand
    return f"  … by hand                {total.by_hand:>7,}  (ours no more in {share:.1%} of the cases)"


@app.command()
def speed(
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure times and memory, each beside what it is compared with."""
    _report(figures(), output)


@app.command()
def convert(
    folder: Annotated[Path | None, typer.Option("--folder", help="Where 13 GB find room for a while.")] = None,
    rounds: Annotated[int, typer.Option(help="Pairs of each kind.")] = 3,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure conversions of checkpoints of some gigabytes."""
    _report(convert_figures(folder, rounds), output)


@app.command()
def save(
    folder: Annotated[Path | None, typer.Option("--folder", help="Where 5 GB find room for a while.")] = None,
    rounds: Annotated[int, typer.Option(help="Pairs of each kind.")] = 5,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure the saving of a model, beside safetensors' own writer."""
    _report(save_figures(folder, rounds), output)


@app.command()
def audit(
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure the audit: two large trees, and a scan of the Python files that are installed here."""
    _report(audit_figures(), output)


@app.command("load")
def load_path(
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure the load path, beside safetensors with torch and beside transformers."""
    _report(load_figures(), output)


@app.command()
def workers(
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")] = None,
) -> None:
    """Measure a conversion by two worker processes beside one, and by a dask cluster."""
    _report(worker_figures(), output)


def _report(measured: Iterable[Figure], output: Path | None) -> None:
    found: list[Figure] = []
    for figure in measured:
        found.append(figure)
        print(f"{figure.what:<42} {figure.value:8.3f} {figure.unit}", flush=True)
        if figure.beside:
            print(f"    {figure.beside}", flush=True)
    if output is not None:
        output.write_text(json.dumps([figure._asdict() for figure in found], indent=2, ensure_ascii=False))


if __name__ == "__main__":
    app()
