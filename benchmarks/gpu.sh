#!/usr/bin/env bash
# What a GPU makes of this package, in one table, in less than eight minutes.
#
#   benchmarks/gpu.sh prepare      # with a network: wheels for a machine without, into benchmarks/wheels
#   benchmarks/gpu.sh [PART ...]   # on the machine: of bench, tests, learn (default: all)
#
# Parts that ended well are not run again, the learning run goes on from its checkpoint, so after a
# cut the same command does the rest; the table is printed whatever is there. OUT (default runs/gpu)
# is the folder of it all, PYTHON the interpreter. The machine needs Python 3.12 with PyTorch and the
# widespread packages that torch's image has (numpy, h5py, matplotlib, pytest, hypothesis, typer);
# what benchmarks/wheels holds is unpacked into OUT/site, nothing is installed. Where there is no GPU,
# every part runs at sizes that only try the script.
set -euo pipefail
cd "$(dirname "$0")/.."
WHEELS=benchmarks/wheels
OUT=${OUT:-runs/gpu}
PYTHON=${PYTHON:-python3}
LIMIT_MB=40
MISSING="torchrl tensordict hoptorch pyvers orjson importlib_metadata lazy-importer gymnasium pydantic
    pydantic_core annotated-types typing-inspection
    Farama-Notifications mujoco mujoco-core glfw PyOpenGL minari omegaconf jsonargparse
    docstring_parser typeshed_client lightning pytorch-lightning lightning-utilities imageio"

prepare() {
    rm -rf "$WHEELS" && mkdir -p "$WHEELS"
    local platforms=() n
    for n in 2_17 2_24 2_27 2_28 2_31 2_34 2_35; do
        platforms+=(--platform "manylinux_${n}_x86_64")
    done
    # shellcheck disable=SC2086
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp "${platforms[@]}" --platform manylinux2014_x86_64 \
        --constraint <(grep -v '^torch==' constraints.txt) --dest "$WHEELS" $MISSING
    "$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$WHEELS" .
    local size
    size=$(du -sm "$WHEELS" | cut -f1)
    echo "$(find "$WHEELS" -name '*.whl' | wc -l) wheels, $size MB, in $WHEELS"
    [ "$size" -lt "$LIMIT_MB" ] || { echo "more than $LIMIT_MB MB" >&2; exit 1; }
}

bench() { # side by side: what they measure is compiled for half a minute, then each has its turn
    local part pids=() failed=0
    run() { "$PYTHON" benchmarks/gpu_parts.py "$1" "$OUT/$2.json" "${BENCH[@]}" "${@:3}" & pids+=($!); }
    run updates float32
    run updates tf32 --precision high
    run updates bf16 --precision bf16
    run updates two --num-critics 2
    run replicas replicas_float32 --count $COUNTS
    run replicas replicas_tf32 --count $COUNTS --precision high
    run loops loops_float32
    run loops loops_tf32 --precision high
    for part in "${pids[@]}"; do
        wait "$part" || failed=1
    done
    return $failed
}

tests() { # those of the engines, on a GPU where there is one, and of what stands around them
    "$PYTHON" -m pytest -q -p no:cacheprovider -W default tests/agent/test_engine.py \
        "${FEW_TESTS[@]}" | tee "$OUT/tests.txt"
}

learn() { # the paper's sizes, five seeds in one process, a short schedule
    local more=()
    [ ! -e "$OUT/learn/checkpoints/last.ckpt" ] || more=(--ckpt_path last)
    "$PYTHON" -m adabc_lightning fit --config hopper.yaml --trainer.default_root_dir "$OUT/learn" \
        --logging.wandb disabled --trainer.enable_progress_bar false "${LEARN[@]}" "${more[@]}"
}

if [ "${1:-}" = prepare ]; then
    prepare
    exit
fi

mkdir -p "$OUT"
if [ -d "$WHEELS" ] && [ ! -e "$OUT/site/.ready" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --target "$OUT/site" "$WHEELS"/*.whl
    touch "$OUT/site/.ready"
fi
# The clone first: it may be newer than the wheel of it.
PYTHONPATH=$PWD:$(realpath -m "$OUT/site")${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH WANDB_MODE=disabled PYTHONUNBUFFERED=1 RL_LOGGING_LEVEL=WARNING

if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    FEW_TESTS=(tests/agent/test_update.py tests/agent/test_module.py tests/agent/test_live_policy.py
        tests/run/test_resume.py tests/replicas)
    BENCH=()
    COUNTS="1 5 20"
    LEARN=(--model.replicas 5 --model.engine compiled_graph --schedule.offline_updates 24000
        --schedule.online_env_steps 4000 --schedule.evaluation_every 4000)
else
    echo "no GPU: sizes that only try the script"
    FEW_TESTS=(-k "not compiled_updates")
    BENCH=(--rounds 1 --updates 2 --rows 1000 --hidden 16 --steps 10)
    COUNTS="1 2"
    LEARN=(--model.replicas 2 --model.hidden_sizes "[8]" --schedule.offline_updates 6
        --schedule.online_env_steps 4 --schedule.updates_per_env_step 1
        --schedule.evaluation_every 3 --evaluation.episodes 1)
fi

failed=()
for part in "${@:-bench tests learn}"; do
    for part in $part; do
        case $part in
            bench | tests | learn) ;;
            *) echo "no part $part; known: bench, tests, learn" >&2; exit 2 ;;
        esac
        if [ -e "$OUT/$part.done" ]; then
            echo "== $part: done before"
            continue
        fi
        echo "== $part"
        start=$SECONDS
        # In a shell of its own: set -e has no force within a condition.
        set +e
        (set -e; "$part")
        status=$?
        set -e
        if [ $status = 0 ]; then
            echo $((SECONDS - start)) >"$OUT/$part.done"
        else
            failed+=("$part")
        fi
    done
done
"$PYTHON" benchmarks/gpu_parts.py table "$OUT"
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
