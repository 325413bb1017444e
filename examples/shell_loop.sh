#!/bin/sh
# A furnace run by a shell script: ask what to try, measure, tell what came out. Needs curl and jq.
#
#   aifs-tune serve &                      # or export AIFS_TUNE_URL and AIFS_TUNE_TOKEN of the lab's service
#   sh examples/shell_loop.sh crystals 12  # a study, how many measurements
#
# Every request has an Idempotency-Key made of what it is for, so the script can be killed and run again: it goes on
# where it was, and no measurement is asked for twice.
set -eu
url=${AIFS_TUNE_URL:-http://127.0.0.1:8000}/v1
study=${1:-crystals}
n=${2:-12}

call() { # PATH [CURL OPTION ...]
    path=$1 && shift
    answer=$(curl -sS --fail-with-body --retry 8 --retry-connrefused "$url/$path" \
        ${AIFS_TUNE_TOKEN:+-H "Authorization: Bearer $AIFS_TUNE_TOKEN"} "$@") || { echo "$answer" >&2; exit 1; }
    echo "$answer"
}

post() { # KEY PATH JSON
    call "$2" -H "Idempotency-Key: $study/$1" -H 'Content-Type: application/json' -d "$3"
}

measure() { # TEMPERATURE HOLD, here simulated: the yield; it fails where the melt boils
    awk -v t="$1" -v h="$2" 'BEGIN {
        if (t > 1350) exit 1
        printf "%.4f", exp(-((t - 950) / 200)^2 - ((h - 12) / 10)^2)
    }'
}

post new studies "$(jq -n --arg study "$study" '{
    name: $study,
    objective: {metric: "yield", mode: "max"},
    space: {
        temperature: {type: "float", low: 600, high: 1400, unit: "K"},
        hold: {type: "float", low: 1, high: 40, log: true, unit: "h"}
    }
}')" >/dev/null

i=1
while [ "$i" -le "$n" ]; do
    asked=$(post "ask-$i" "studies/$study/ask" '{"n": 1}')
    number=$(echo "$asked" | jq '.trials[0].trial')
    temperature=$(echo "$asked" | jq '.trials[0].params.temperature')
    hold=$(echo "$asked" | jq '.trials[0].params.hold')
    if yield=$(measure "$temperature" "$hold"); then
        result=$(jq -n --argjson value "$yield" '{value: $value}')
    else
        result='{"state": "failed", "reason": "the melt boiled"}'
    fi
    told=$(post "tell-$i" "studies/$study/trials/$number/tell" "$result")
    echo "$told" | jq -r '"trial \(.trial): \(.state) \(.value // .reason)  \(.params | tostring)"'
    i=$((i + 1))
done

best=$(call "studies/$study/best")
echo "$best" | jq '.best[0] | {trial, value, params}'
