#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Each numbered lesson runs to its end in an empty folder, says something, and complains about nothing; the
# experiment goes on from its checkpoint.
set -eu

here=$PWD
programs=$here/${NIN_EXAMPLES:-examples}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
count=0
for lesson in examples/[0-9][0-9]_*.c; do
    program=$programs/$(basename "$lesson" .c)
    (cd "$scratch" && "$program" > out 2> err) || { cat "$scratch/err" >&2; echo "$lesson failed" >&2; exit 1; }
    [ -s "$scratch/out" ] || { echo "$lesson printed nothing" >&2; exit 1; }
    [ ! -s "$scratch/err" ] || { cat "$scratch/err" >&2; echo "$lesson complained" >&2; exit 1; }
    count=$((count + 1))
done
[ "$count" -gt 0 ]

# The experiment on four black images: it goes on from a checkpoint, with the seed of that.
for part in train t10k; do
    { printf '\000\000\010\003\000\000\000\004\000\000\000\034\000\000\000\034'; head -c 3136 /dev/zero; } \
        > "$scratch/$part-images-idx3-ubyte"
    printf '\000\000\010\001\000\000\000\004\000\001\002\003' > "$scratch/$part-labels-idx1-ubyte"
done
experiment() { # epochs, seed, what it has to say, options...
    epochs=$1 seed=$2 words=$3
    shift 3
    (cd "$scratch" && "$programs/mnist_nin" --data . --recipe reference --epochs "$epochs" \
        --seed "$seed" "$@" > out 2> err) || { cat "$scratch/err" >&2; echo "mnist_nin failed" >&2; exit 1; }
    grep -q "$words" "$scratch/out" || { cat "$scratch/out"; echo "mnist_nin: no '$words'" >&2; exit 1; }
}
experiment 1 5 'seed 5$' --checkpoint run
experiment 2 9 'seed 5$' --resume run
experiment 3 9 'epoch 2 is over' --resume run

# A run that is over when it is resumed still writes what it is asked for.
experiment 3 9 '^last test error' --resume run --save over --checkpoint again --curve over.csv
for file in over again over.csv; do
    [ -s "$scratch/$file" ] || { echo "mnist_nin: a run that was over has not written '$file'" >&2; exit 1; }
done

# Another recipe is not gone on with, and the program says what is wanted; nor is the checkpoint overwritten.
stays() { # status, what it has to say, options...
    status=$1 words=$2 got=0
    shift 2
    (cd "$scratch" && cp run before && "$programs/mnist_nin" --data . --resume run "$@" > out 2> err) || got=$?
    [ "$got" -eq "$status" ] && grep -q -e "$words" "$scratch/err" && cmp -s "$scratch/run" "$scratch/before" ||
        { cat "$scratch/err" >&2; echo "mnist_nin $*: status $got, no '$words', or another checkpoint" >&2; exit 1; }
}
stays 1 'begun with' --recipe quick
stays 2 'is resumed, and named for another output' --recipe reference --save run

# Ctrl-C after the last batch, in a test that takes its time: training is over, so the run ends as ever.
mkdir "$scratch/long"
cp "$scratch"/train-* "$scratch/long"
{ printf '\000\000\010\003\000\000\017\240\000\000\000\034\000\000\000\034'; head -c 3136000 /dev/zero; } \
    > "$scratch/long/t10k-images-idx3-ubyte"
{ printf '\000\000\010\001\000\000\017\240'; head -c 4000 /dev/zero; } > "$scratch/long/t10k-labels-idx1-ubyte"
rm "$scratch/out" # of the run before: it has the words that are waited for
(cd "$scratch" && exec "$programs/mnist_nin" --data long --epochs 1 --threads 1 --save last > out 2> err) &
experiment=$!
until grep -q "test error" "$scratch/out" 2> /dev/null || ! kill -0 $experiment; do sleep 0.05; done
sleep 0.3 # the table has begun: one batch takes some milliseconds, the test more than a second
kill -INT $experiment || true
wait $experiment && [ -s "$scratch/last" ] && grep -q '^network' "$scratch/out" ||
    { cat "$scratch/out" "$scratch/err" >&2; echo "mnist_nin: Ctrl-C in the last test" >&2; exit 1; }
# Outputs that could not be written in the end are refused at the start.
refused() { # status, what it has to say, options...
    status=$1 words=$2 got=0
    shift 2
    (cd "$scratch" && "$programs/mnist_nin" --data . --epochs 1 --quiet "$@" > out 2> err) || got=$?
    [ "$got" -eq "$status" ] && grep -q -e "$words" "$scratch/err" ||
        { cat "$scratch/err" >&2; echo "mnist_nin $*: status $got, no '$words'" >&2; exit 1; }
}
mkdir "$scratch/folder"
name=$(printf '%0250d' 0)
for option in save checkpoint curve plot; do
    refused 1 'cannot be written: it is a folder' "--$option" folder
    refused 1 'cannot be written: it is no regular file' "--$option" /dev/null
    refused 1 'cannot be written: ' "--$option" missing/file
    refused 1 'cannot be written: ' "--$option" run/file
    refused 1 'cannot be written: ' "--$option" "$name"
done
refused 2 '--threads takes a whole number from 0 to 128' --threads 129
left=$(cd "$scratch" && echo *.tmp folder/*)
[ "$left" = '*.tmp folder/*' ] || { echo "mnist_nin left $left" >&2; exit 1; }

# A full disk, here a limit of 512 or 1024 bytes for a file: what was there stays whole, and what could not be
# written is not said to be.
limited() {
    trap '' XFSZ
    ulimit -f 1
    "$programs/mnist_nin" --data . --recipe reference --epochs 20 --checkpoint full --curve full.csv 2>&1 &&
        echo 'status 0'
}
(cd "$scratch" && (limited) | cat > out) || true
grep -q "the curve cannot be written to 'full.csv'" "$scratch/out" &&
    grep -q 'full: cannot write' "$scratch/out" &&
    ! grep -q -E '^(checkpoint|curve) |status 0' "$scratch/out" &&
    [ ! -e "$scratch/full" ] && tail -n 1 "$scratch/full.csv" | grep -q '^[0-9]*,.*[.][0-9][0-9][0-9]$' ||
    { cat "$scratch/out"; echo "mnist_nin on a full disk went wrong" >&2; exit 1; }

echo "check-examples: $count lessons run, an experiment resumed"
