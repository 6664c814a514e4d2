#!/usr/bin/env bash
# Make a virtual environment that holds treealign and what a command needs; a second run finds it made.
#
#   scripts/setup.sh [dev]          all that the tests need
#   scripts/setup.sh demo           what scripts/demo needs, which is less
#
#   TREEALIGN_VENV=DIR              in DIR instead of .venv
#   PYTHON=python3.12               with another Python (3.11 or newer)
#   TREEALIGN_TORCH_INDEX=URL       torch from this index (or folder of wheels) of yours, handed to pip: one of CPU builds
#                                   is small, pytorch.org/get-started names it
#   TREEALIGN_TORCH='torch>=2.9'    another torch than the pinned one
#
# A torch (2.4 or newer) that $PYTHON has is used, unless one of the last two is set.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${TREEALIGN_VENV:-.venv}
python=${PYTHON:-python3}
index=${TREEALIGN_TORCH_INDEX:-}
# the release that the tests run with
torch=${TREEALIGN_TORCH:-torch==2.13.0}
case ${1:-dev} in
    dev) needs=dev ;;
    demo) needs=transformers,html ;;
    *) echo "error: set up for what? dev or demo, not $1" >&2 && exit 2 ;;
esac

version='import sys; print("%d.%d.%d" % sys.version_info[:3])'
enough='import sys; sys.exit(sys.version_info < (3, 11))'
if ! "$python" -c "$enough"; then
    echo "error: treealign needs Python 3.11 or newer, $python is $("$python" --version 2>&1)" >&2
    printf '\nhint: PYTHON=python3.11 %s\n' "$0" >&2
    exit 2
fi
if [ -n "${PYTHON:-}" ] && [ -x "$venv/bin/python" ] &&
    [ "$("$venv/bin/python" -c "$version")" != "$("$python" -c "$version")" ]; then
    echo "error: $venv has Python $("$venv/bin/python" -c "$version"), $PYTHON is $("$python" -c "$version")" >&2
    printf '\nhint: TREEALIGN_VENV=.venv-%s\n' "$("$python" -c "$version")" >&2
    exit 2
fi

# what was installed last time, so that a second run costs nothing
stamp="$index $torch $(cksum <pyproject.toml) $(pwd)"
for made in "$venv/treealign.dev" "$venv/treealign.$needs"; do
    if [ -x "$venv/bin/python" ] && [ "$(cat "$made" 2>/dev/null)" = "$stamp" ]; then
        exit 0
    fi
done

if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "making $venv with Python $("$python" -c "$version")" >&2
    # some systems ship Python without ensurepip: their pip can still fill a virtual environment
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip "$venv" &&
            "$python" -m pip --python "$venv/bin/python" install --quiet pip || {
            echo "error: $python can make no virtual environment with pip in it" >&2
            printf '\nhint: apt install python3-venv   # on Debian and Ubuntu\n' >&2
            exit 2
        }
    fi
fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check)

# the site of a torch that is there already
if [ -z "$index${TREEALIGN_TORCH:-}" ] && ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    found='import pathlib, torch; new = torch.__version__ >= (2, 4); print(pathlib.Path(torch.__file__).parents[1] if new else "")'
    there=$("$python" -c "$found" 2>/dev/null || true)
    if [ -n "$there" ]; then
        echo "using the torch in $there" >&2
        site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        echo "import site; site.addsitedir('$there')" >"$site/zz_torch.pth"
    fi
fi
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    source=()
    [ -z "$index" ] || source=(--index-url "$index")
    [ ! -d "$index" ] || source=(--no-index --find-links "$index")
    # never gigabytes without a word
    "$venv/bin/python" scripts/torch_size.py "$torch" ${source[@]+"${source[@]}"}
    echo "installing $torch" >&2
    # its own requirements come below, from the usual index
    "${pip[@]}" install --quiet ${source[@]+--no-deps "${source[@]}"} "$torch"
fi
echo "installing treealign[$needs] into $venv (the first time takes a minute or more)" >&2
"${pip[@]}" install --quiet --editable ".[$needs]"
printf '%s' "$stamp" >"$venv/treealign.$needs"
