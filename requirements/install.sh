#!/bin/sh
# Installs requirements/NAME.txt into .venv, which it makes if it is missing: `requirements/install.sh local`.
# uv does it in a third of pip's time (docs/decisions/0020-uv.md); pip does it where uv does not work.
set -eu
cd "$(dirname "$0")/.."
NAME=$1
VENV_PYTHON=.venv/bin/python

fail() {
  printf '\n%s\n\n' "$1" >&2
  exit 1
}

# Prints the Python to use: the one that PYTHON names, else python3.11, else a python3 that is not older.
find_python() {
  for candidate in ${PYTHON:-python3.11 python3}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "Python 3.11 or later is missing (looked for: ${PYTHON:-python3.11, python3}). To install it:
  Debian 12, Ubuntu 24.04 and later:  sudo apt-get install python3 python3-venv
  Ubuntu 22.04:                       sudo apt-get install python3.11 python3.11-venv"
}

make_venv() {
  python=$(find_python)
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "Python $version is here ($python), but its venv module is missing. To install it:
  Debian, Ubuntu:  sudo apt-get install python$version-venv"
  echo "Making .venv with $python ..."
  "$python" -m venv --clear .venv
}

# uv reads no configuration of pip: it is told of another index than the public one.
install_with_uv() {
  index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
  if [ -n "$index" ]; then
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    export UV_DEFAULT_INDEX
  fi
  pip install --quiet --only-binary :all: --require-hashes -r requirements/uv.txt &&
    UV_HTTP_RETRIES=${UV_HTTP_RETRIES:-1} .venv/bin/uv pip install --python "$VENV_PYTHON" --require-hashes -r "requirements/$NAME.txt"
}

pip() {
  "$VENV_PYTHON" -m pip --disable-pip-version-check "$@"
}

# A .venv without pip is one that was not finished, or whose Python is gone.
pip --version >/dev/null 2>&1 || make_venv
echo "Installing requirements/$NAME.txt into .venv ..."
if ! install_with_uv; then
  echo "uv does not work here; pip takes longer ..." >&2
  pip install --require-hashes -r "requirements/$NAME.txt"
fi
