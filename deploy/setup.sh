#!/usr/bin/env bash
# Makes the environment: Debian packages where apt may be used, and .venv with everything from PyPI.
#
#   deploy/setup.sh demo   what the demo needs (GStreamer's RTSP server)
#   deploy/setup.sh test   the same, and what only tests need, packages of Debian and extras of pyproject.toml alike;
#                          of these, what can't be had is named and skipped
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-demo}

needed=(gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav python3-gi)
wanted=()
if [ "$purpose" = test ]; then wanted=(prometheus postgresql chromium); fi

say() { printf '%s\n' "$*" >&2; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing_of() { for package in "$@"; do installed "$package" || printf '%s ' "$package"; done; }

# The command that may install packages, or nothing.
apt_command() {
  if ! command -v apt-get >/dev/null; then return; fi
  if [ "$(id -u)" = 0 ]; then
    echo "apt-get"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    echo "sudo -n apt-get"
  fi
}

apt_install() {
  local apt=$1
  shift
  if ! { $apt update -qq && DEBIAN_FRONTEND=noninteractive $apt install -y -qq --no-install-recommends "$@"; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    return 1
  fi
}

find_python() {
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue
    echo "$candidate"
    return
  done
  say "Python 3.11, 3.12 or 3.13 was not found. Install one, or name it: make setup PYTHON=/path/to/python3.11"
  exit 1
}

python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then needed+=(python3-venv); fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# shellcheck disable=SC2046 # package names hold no spaces
read -ra missing <<<"$(missing_of "${needed[@]}")" || true
# shellcheck disable=SC2046
read -ra missing_wanted <<<"$(missing_of ${wanted[@]+"${wanted[@]}"})" || true
apt=$(apt_command)
if [ ${#missing[@]} -gt 0 ]; then
  if [ -z "$apt" ]; then
    say "These Debian packages are missing and can't be installed from here. Run this once, then try again:"
    say "  sudo apt-get install -y --no-install-recommends ${missing[*]} ${missing_wanted[*]:-}"
    exit 1
  fi
  say "Installing Debian packages: ${missing[*]}"
  if ! apt_install "$apt" "${missing[@]}"; then
    say "apt-get failed (above). Run this by hand, then try again:"
    say "  sudo apt-get install -y --no-install-recommends ${missing[*]}"
    exit 1
  fi
fi
for package in ${missing_wanted[@]+"${missing_wanted[@]}"}; do
  [ -n "$apt" ] && say "Installing for the tests: $package" && apt_install "$apt" "$package" && continue
  say "Could not install $package: the tests that need it are skipped. By hand: sudo apt-get install -y $package"
done

pip_install() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint deploy/constraints.txt \
    --editable ".[$1]"
}

# Installed once for each state of the files that say what is needed.
state=$(cat pyproject.toml deploy/constraints.txt | sha256sum | cut -c1-16)
stamp=.venv/.installed-$state
if [ ! -e "$stamp" ]; then
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  say "Installing Python packages into .venv (a few minutes the first time)"
  pip_install train,postgres,dev
  rm -f .venv/.installed-*
  touch "$stamp"
fi
if [ "$purpose" = test ] && [ ! -e "$stamp-test" ]; then
  say "Installing for the tests: what streamkd bench compares with, tensorboard, transformers"
  whole=yes
  for extra in bench tracking transformers; do
    pip_install "$extra" && continue
    whole=no
    say "Could not install the extra '$extra': the tests that need it are skipped. By hand:"
    say "  .venv/bin/pip install --constraint deploy/constraints.txt --editable '.[$extra]'"
  done
  # What failed is tried again the next time.
  if [ $whole = yes ]; then touch "$stamp-test"; fi
fi
