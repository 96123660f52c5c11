#!/bin/sh
# Numbered lines, odd ones on stdout, even ones on stderr: 5,000 at once, then one each 100 ms.
n=0

say() {
    n=$((n + 1))
    if [ $((n % 2)) -eq 1 ]; then
        echo "line $n"
    else
        echo "line $n" >&2
    fi
}

while [ "$n" -lt 5000 ]; do
    say
done
while sleep 0.1; do
    say
done
