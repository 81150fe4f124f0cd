# What the examples that run have in common; sourced by their `run`, in the repository's root.
# GATEWRIGHT_PROFILE=debug builds faster; GATEWRIGHT_TOOLS is where fetched programs lie.

tools=${GATEWRIGHT_TOOLS:-target/tools}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
profile=${GATEWRIGHT_PROFILE:-release}

# provide VARIABLE PROGRAM TOOL: sets VARIABLE to the program's path.
provide() {
    local variable=$1 program=$2 tool=$3 path=${!1:-}
    if [ -z "$path" ] && path=$(command -v "$program"); then
        echo "$program: using $path"
    elif [ -z "$path" ]; then
        haproxy/get-tools "$tool"
        path=$(cd "$tools/$tool" && pwd)/$program
    fi
    export "$variable=$path"
}

# build_and_run EXAMPLE ARGUMENT…: builds Gatewright and the example, and becomes the example.
build_and_run() {
    local example=$1
    shift
    case $profile in
        release) cargo build --release --bin gatewright --example "$example" ;;
        debug) cargo build --bin gatewright --example "$example" ;;
        *)
            echo "GATEWRIGHT_PROFILE is release or debug, not '$profile'" >&2
            exit 2
            ;;
    esac
    export GATEWRIGHT_BIN=${GATEWRIGHT_BIN:-$target/$profile/gatewright}
    exec "$target/$profile/examples/$example" "$@"
}
