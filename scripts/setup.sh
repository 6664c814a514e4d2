#!/usr/bin/env bash
# Make a virtual environment that holds treealign and all that its tests need.
#
#   scripts/setup.sh            in .venv
#   TREEALIGN_VENV=DIR          in DIR instead
#   PYTHON=python3.12           with another Python (3.11 or newer)
#   TREEALIGN_TORCH='torch>=2'  with another torch than the pinned one, where none is installed yet
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${TREEALIGN_VENV:-.venv}
python=${PYTHON:-python3}
# a bare `torch` may bring gigabytes of GPU libraries; this release is the one the tests run with
torch=${TREEALIGN_TORCH:-torch==2.13.0}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: treealign needs Python 3.11 or newer, $python is $("$python" --version 2>&1)" >&2
    printf '\nhint: PYTHON=python3.11 %s\n' "$0" >&2
    exit 2
fi

if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "making $venv" >&2
    # some systems ship Python without ensurepip: their pip can still fill a virtual environment
    "$python" -m venv "$venv" >/dev/null 2>&1 || {
        "$python" -m venv --clear --without-pip "$venv"
        "$python" -m pip --python "$venv/bin/python" install --quiet pip
    }
fi

# what was installed last time, so that a second run costs nothing
stamp="$torch $(cksum <pyproject.toml) $(pwd)"
if [ "$(cat "$venv/treealign.stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "installing into $venv (the first time takes a few minutes)" >&2
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    "$venv/bin/python" -c 'import torch' 2>/dev/null || "${pip[@]}" "$torch"
    "${pip[@]}" --editable '.[dev]'
    printf '%s' "$stamp" >"$venv/treealign.stamp"
fi
