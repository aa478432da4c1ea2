# Sourced by scripts/demo, scripts/test and scripts/check: afterwards .venv holds framewire and
# everything it needs, and is in PATH. Installs only when pyproject.toml or the Python has changed.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

fail() {
    echo "framewire: $1" >&2
    exit 3
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

python=$(find_python)
[ -n "$python" ] || fail "needs Python 3.11 or newer; set PYTHON to one"
stamp=$({ cat pyproject.toml; "$python" -VV; } | cksum)

if [ "$(cat .venv/framewire-stamp 2>/dev/null)" != "$stamp" ]; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
    echo "Setting up .venv (once; torch alone is several GB, so this takes a few minutes)" >&2
    # A .venv of ours is made anew; one that somebody else made is added to, not wiped.
    if [ -f .venv/framewire-stamp ]; then rm -rf .venv; fi
    "$python" -m venv .venv || fail "can't make .venv"
    pip_install() {
        .venv/bin/python -m pip install --disable-pip-version-check --quiet --quiet "$@" ||
            fail "the installation failed; the lines above say why"
    }
    pip_install --editable '.[dev,track,text]'
    # The tracker brings opencv-python along, whose cv2 needs libGL; the headless one comes last.
    pip_install --force-reinstall --no-deps opencv-python-headless
    echo "$stamp" > .venv/framewire-stamp
fi

PATH="$PWD/.venv/bin:$PATH"
export PATH

has_camera() {
    /usr/bin/python3 -m tests.rtsp_server --check >/dev/null 2>&1
}

# For scripts/test alone: afterwards the cameras that tests start can run, or a line says what they
# lack. Never fails: without them, the tests that need them are skipped.
provide_camera() {
    local packages said
    if has_camera; then return; fi
    packages=$(paste -sd ' ' tests/apt.txt)
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing what the tests' RTSP server needs (once): apt-get install $packages" >&2
        said=$({
            apt-get update  # Where it fails, what is known already may do.
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
        } 2>&1) || tail -n 5 <<<"$said" >&2
        if has_camera; then return; fi
    fi
    echo "framewire: tests with live cameras are skipped; they need: apt-get install $packages" >&2
}
