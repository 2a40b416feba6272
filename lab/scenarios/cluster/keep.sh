#!/usr/bin/env bash
# Runs a program again some seconds after it ended, however that came about; $RUN/pid tells its process.
# keep.sh etcd NUMBER | keep.sh gvpnd NUMBER
case $1 in
etcd)
    pause=4
    all=e1=http://10.2.1.2:2380,e2=http://10.2.2.2:2380,e3=http://10.2.3.2:2380
    own=http://10.2.$2.2
    command=(etcd --name "e$2" --data-dir "$RUN/etcd" --initial-cluster "$all" --initial-cluster-state new
        --listen-client-urls "$own:2379" --advertise-client-urls "$own:2379"
        --listen-peer-urls "$own:2380" --initial-advertise-peer-urls "$own:2380") ;;
gvpnd)
    # Longer than others take to notice: the lease of three seconds, what etcd takes to end it, and an election.
    pause=9
    # The cluster key comes as systemd would hand it over.
    export CREDENTIALS_DIRECTORY=$RUN/credentials
    mkdir -p "$CREDENTIALS_DIRECTORY"
    printf '0123456789abcdef%.0s' 1 2 3 4 > "$CREDENTIALS_DIRECTORY/gvpn-cluster-key"
    command=("$GVPND" --config "$CONF/ks$2.conf" --runtime-dir "$RUN" --state-dir "$RUN/state" --log-dir "$RUN") ;;
esac
while true; do
    "${command[@]}" >> "$RUN/$1.log" 2>&1 &
    echo $! > "$RUN/pid"
    wait
    sleep "$pause"
done
