#!/usr/bin/env bash
# A day with a GPU in one command of under ten minutes: builds what can be built here, runs the op tests on the device,
# measures ops and model, and writes benchmarks/results/gpu/<chip>_<part>.json. Nothing else in the checkout changes
# but what git ignores (the library, build/, .venv-gpu).
#
#   bash benchmarks/gpu_day.sh                 the whole day
#   bash benchmarks/gpu_day.sh --parts "ops"   some of PARTS below
#   bash benchmarks/gpu_day.sh --rehearse      on the CPU with tiny shapes, into build/gpu_rehearsal: figures mean nothing
#
# --python PYTHON: the environment to use; without it one whose torch reaches the GPU is looked for, and made in
# .venv-gpu where there is none. --out FOLDER: other results. --minutes N: another budget than 10. Paths are relative to
# the root of the checkout.
# A part that fails or runs out of time leaves the others and their results alone; the exit status says whether any did.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PARTS="build ceilings tests training-tests compile ops model training adaptation sanitizer"
minutes=10 device=cuda python="" parts=$PARTS out="" tiny=()
say() { printf 'gpu_day: %s\n' "$*"; }
refuse() { say "$*" >&2; exit 2; }

while [ $# -gt 0 ]; do
  case "$1" in
    --rehearse) device=cpu tiny=(--tiny) ;;
    --parts | --python | --out | --minutes)
      [ $# -gt 1 ] || refuse "$1 wants a value"
      case "$1" in
        --parts) parts=$2 ;;
        --python) python=$2 ;;
        --out) out=$2 ;;
        --minutes) minutes=$2 ;;
      esac
      shift ;;
    *) refuse "unknown argument $1; the head of benchmarks/gpu_day.sh lists them" ;;
  esac
  shift
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || refuse "--minutes must be a whole number of at least 1, got $minutes"
for part in $parts; do
  [[ " $PARTS " == *" $part "* ]] || refuse "unknown part $part, wanted some of $PARTS"
done
budget=$((60 * minutes))
work=build/gpu_day
[ "$device" = cuda ] || work=build/gpu_rehearsal
[ -n "$out" ] || { [ "$device" = cuda ] && out=benchmarks/results/gpu || out=$work; }

if [ "$device" = cuda ] && [[ "$(nvidia-smi -L 2> /dev/null || true)" != "GPU "* ]] && ! [ -e /dev/kfd ]; then
  refuse "there is no GPU here; --rehearse runs everything on the CPU with tiny shapes"
fi
mkdir -p "$work" "$out"
failed=()

# step NAME SECONDS COMMAND...: run it for SECONDS at most and not beyond the budget; its output goes to a log.
# @SECONDS@ in the command becomes the time that it has.
step() {
  local name=$1 limit=$2 log status=0
  shift 2
  log=$work/$name.log
  [ $((budget - SECONDS)) -ge "$limit" ] || limit=$((budget - SECONDS))
  if [ "$limit" -lt 10 ]; then
    say "$name: not run, the $minutes minutes are over"
    failed+=("$name")
    return 1
  fi
  say "$name: at most $limit s, from second $SECONDS on; log in $log"
  # GNU timeout. The part stops by itself before: 20 s for imports and the last result.
  timeout --kill-after=5 "$limit" "${@//@SECONDS@/$((limit > 40 ? limit - 20 : limit / 2))}" > "$log" 2>&1 || status=$?
  [ "$status" -ne 0 ] || return 0
  if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then say "$name: stopped after $limit s"; else
    say "$name: failed with status $status; the log ends with"
    tail -n 12 "$log" | sed 's/^/    /'
  fi
  failed+=("$name")
  return 1
}

wants() { [[ " $parts " == *" $1 "* ]]; }
runs() { command -v "$1" > /dev/null && "$1" -c "$2" 2> /dev/null; }
has_cuda() { runs "$1" 'import sys, torch; sys.exit(not torch.cuda.is_available())'; }
has_cpu() { runs "$1" 'import torch, pytest'; }

# PyPI's torch for Linux is the CUDA build, and brings the Triton that goes with it.
make_environment() {
  python3 -m venv .venv-gpu
  .venv-gpu/bin/pip install -q torch==2.13.0 numpy setuptools
}

# What the tests and the build need beyond torch goes beside an environment that is not ours, not into it.
add_missing() {
  local site=$work/site missing
  missing=$("$python" - << 'PY'
import importlib.util

def absent(module):
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True

names = {"numpy": "numpy", "PIL": "pillow", "yaml": "pyyaml", "tqdm": "tqdm", "safetensors": "safetensors",
         "pytest": "pytest", "hypothesis": "hypothesis", "cmake": "cmake>=3.20", "ninja": "ninja",
         "setuptools.command.bdist_wheel": "setuptools>=77"}
print(" ".join(package for module, package in names.items() if absent(module)))
PY
  )
  if [ -n "$missing" ]; then
    # shellcheck disable=SC2086  # a list of words
    "$python" -m pip install -q --target "$site" $missing
  fi
}

find_environment() {
  local candidate
  if [ -n "$python" ]; then
    [ "$device" = cpu ] || has_cuda "$python" || refuse "the torch of $python reaches no GPU"
    return
  fi
  for candidate in .venv-gpu/bin/python .venv/bin/python python3 python; do
    if "has_$device" "$candidate"; then
      python=$candidate
      return
    fi
  done
  [ "$device" = cuda ] || refuse "no environment with torch and pytest; make test builds one"
  [ ! -e .venv-gpu ] || refuse "the torch in .venv-gpu reaches no GPU; remove the folder, or name a --python that does"
  step environment 300 bash -euc make_environment || refuse "no torch that reaches the GPU, and it could not be installed"
  python=.venv-gpu/bin/python
  has_cuda "$python" || refuse "the torch in .venv-gpu reaches no GPU; name a --python whose torch does"
}

find_nvcc() {
  local home
  for home in "${CUDA_HOME:-}" /usr/local/cuda; do
    [ -n "$home" ] && [ -x "$home/bin/nvcc" ] && return 0
  done
  command -v nvcc > /dev/null
}

# The library with CUDA kernels for this chip alone, moved into the checkout, where git ignores it.
build() {
  local arch
  arch=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
  EGFORMER_CUDA=1 EGFORMER_CUDA_ARCHS="$arch-real" "$python" setup.py build_ext --build-lib "$work/lib" \
    --build-temp "$work/cmake"
  mv -f "$work/lib/egformer_fast/_C.so" "$work/lib/egformer_fast/_build.json" egformer_fast/
  "$python" -c 'from egformer_fast.ops._backend import refusal as r; import sys; sys.exit(r("cuda", "cuda"))'
}

export -f make_environment add_missing build
find_environment
export python work
say "environment: $python; results in $out"
PYTHONPATH="$PWD/$work/site${PYTHONPATH:+:$PYTHONPATH}" PATH="$PWD/$work/site/bin:$(dirname "$(command -v "$python")"):$PATH"
export PYTHONPATH PATH
# measure PART SECONDS N: the part, for SECONDS at most and for an N-th of the time that is left.
measure() {
  local limit=$(((budget - SECONDS) / $3))
  [ "$limit" -lt "$2" ] || limit=$2
  step "$1" "$limit" "$python" -m benchmarks.gpu "$1" --device "$device" --out "$out" --seconds @SECONDS@ "${tiny[@]}" || true
}

[ "$device" = cpu ] || step packages 60 bash -euc add_missing || true
if wants build; then
  if [ "$device" = cpu ]; then say "build: left out in a rehearsal"
  elif find_nvcc; then step build 240 bash -euc build || true
  else say "build: there is no nvcc; Triton alone"; fi
fi
wants ceilings && measure ceilings 40 1
wants tests && measure tests 150 4
wants training-tests && measure training-tests 90 4
wants compile && measure compile 110 3
wants ops && measure ops 180 2
wants model && measure model 90 1
wants training && measure training 120 1
wants adaptation && measure adaptation 120 1
wants sanitizer && measure sanitizer 90 1

rm -f "$out"/.*.tmp
say "after $SECONDS s:"
timeout 30 "$python" -m benchmarks.gpu summary --device "$device" --out "$out" "${tiny[@]}" || failed+=("summary")
if [ ${#failed[@]} -gt 0 ]; then
  say "failed or not run: ${failed[*]}"
  exit 1
fi
say "all parts passed"
