# To be sourced: `step <name> <command…>` runs the command and says how many seconds it took and whether it failed.

step() {
    local name=$1 start=$SECONDS status=0
    shift
    "$@" || status=$?
    printf '== %-16s %4d s  %s\n' "$name" $((SECONDS - start)) "$([ $status = 0 ] && echo ok || echo "FAILED ($status)")"
    return $status
}
