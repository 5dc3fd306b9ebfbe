# shellcheck shell=sh
# suites.sh - `./dev test`: the suites, what --all adds to them, and their totals. Part
# of dev, which has the functions and variables that are not defined here.

# record HOW LABEL KIND REPORT CODE SECONDS LOG: prints the step's line, keeps it for
# the totals, shows the log of a failure. HOW is step or again, and the status that
# of tests/tally.py.
record() {
  status=0
  .venv/bin/python tests/tally.py "$1" build/report/steps "$2" "$3" "$4" "$5" "$6" || status=$?
  [ "$status" != 0 ] || return 0
  [ "$5" != 124 ] || printf '(stopped after %s s)\n' "$6"
  printf -- '--- %s, the end of %s\n' "$2" "$7"
  tail -n 150 "$7"
  printf -- '---\n'
  return "$status"
}

# look HOW LABEL KIND REPORT SECONDS COMMAND...: runs a test runner, records it.
look() {
  how=$1 label=$2 kind=$3 report=$4 limit=$5
  shift 5
  log=build/log/test-$(printf %s "$label-$how" | tr -c 'a-z0-9.' -).log
  began=$(date +%s)
  code=0
  rm -f "$report"
  bounded "$limit" "$@" >"$log" 2>&1 || code=$?
  record "$how" "$label" "$kind" "$report" "$code" $(($(date +%s) - began)) "$log"
}

# step LABEL KIND REPORT SECONDS COMMAND...: one run of one test runner. If few of its
# tests failed, the command is kept for second_looks().
step() {
  status=0
  look step "$@" || status=$?
  [ "$status" != 3 ] || printf '%s\n' "$@" >"build/report/again/$(printf %s "$1" | tr ' ' -)"
}

# Runs the few tests that failed again, alone, when all else is over: what only a busy
# machine upset passes now and is named as unsteady in the totals, a defect fails again.
second_looks() {
  for kept in build/report/again/*; do
    [ -f "$kept" ] || continue
    set --
    while IFS= read -r word; do set -- "$@" "$word"; done <"$kept"
    kind=$2 report=$3
    case $kind in
      ctest) set -- "$@" --rerun-failed ;;
      junit) set -- "$@" --last-failed --last-failed-no-failures none ;;
      jest)
        .venv/bin/python tests/tally.py failed jest "$report" >build/report/files
        set -- "$@" --runTestsByPath
        while IFS= read -r word; do set -- "$@" "$word"; done <build/report/files
        ;;
    esac
    look again "$@" || :
  done
}

# core_step NAME OPTION...: the C tests as built with these CMake options.
core_step() {
  name=$1
  shift
  log=build/log/build-$name.log
  if ! build_cmake "build/$name" -DMEMGUARD_BUILD_NODE=OFF \
    -DMEMGUARD_BUILD_TESTS=ON "$@" >"$log" 2>&1; then
    record step "core $name" build - 1 0 "$log" || :
    return
  fi
  report=$PWD/build/report/core-$name.xml
  step "core $name" ctest "$report" 1200 ctest --test-dir "build/$name" -j "$(nproc)" \
    --output-on-failure --output-junit "$report" \
    --test-output-size-passed 4000000 --test-output-size-failed 4000000
}

test_core() {
  core_step gcc -DCMAKE_C_COMPILER=gcc -DCMAKE_C_FLAGS_RELWITHDEBINFO='-g -O2'
  core_step asan -DCMAKE_C_COMPILER=clang -DMEMGUARD_SANITIZE=address \
    -DCMAKE_C_FLAGS_RELWITHDEBINFO='-g -O1'
}

# fuzz_step NAME COMMAND...: a fuzzer for a minute.
fuzz_step() {
  name=$1
  shift
  step "fuzz $name" exit - 180 env FUZZ_SECONDS=60 "$@"
}

more_core() {
  further core_step tsan -DCMAKE_C_COMPILER=clang -DMEMGUARD_SANITIZE=thread \
    -DCMAKE_C_FLAGS_RELWITHDEBINFO='-g -O1'
  # With the fuzzers, a few seconds each; after that as long as it takes to find more.
  further core_step clang -DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS_RELWITHDEBINFO='-g -O2'
  further core_step valgrind -DCMAKE_C_COMPILER=gcc \
    -DCMAKE_C_FLAGS_RELWITHDEBINFO='-g -O1' \
    "-DCMAKE_CROSSCOMPILING_EMULATOR=valgrind;-q;--error-exitcode=99;--leak-check=full;--suppressions=$PWD/tests/valgrind/core.supp"
  further step 'core coverage' exit - 1800 ./dev coverage
}

# With the corpora, and what the step clang has built.
more_fuzz() {
  for fuzzer in build/clang/fuzz_*; do
    [ ! -x "$fuzzer" ] || further fuzz_step "${fuzzer##*/fuzz_}" sh tests/fuzz/run.sh "$fuzzer"
  done
}

pytest_step() {
  label=$1 folder=$2
  shift 2
  name=$(printf %s "$label" | tr ' ' -)
  step "$label" junit "build/report/$name.xml" 2400 \
    env SCRAPE_SECONDS="$scrape_seconds" "$folder/bin/python" -m pytest -q \
    -o cache_dir="build/pytest-cache/$name" --junitxml="build/report/$name.xml" "$@"
}

# python_step FOLDER: the Python of that environment.
python_step() {
  version=$("$1/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  pytest_step "python $version" "$1" tests/python
}

test_python() { python_step .venv; }

more_python() {
  for folder in .venv-*; do
    [ ! -d "$folder" ] || further python_step "$folder"
  done
  further valgrind_step python --suppressions=tests/valgrind/python.supp \
    .venv/bin/python tests/valgrind/python_uses.py
  for name in base64 pcap; do
    further fuzz_step "$name" .venv/bin/python tests/fuzz/mutate.py "$name" 60
  done
}

# node_bin VERSION: the folder of that version's node.
node_bin() {
  case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) die "no Node for $(uname -m)" ;; esac
  echo "$PWD/tests/runtimes/node_modules/node$1-$arch/bin"
}

# node_step VERSION. As in tests/node/helpers.js: Node may hang when it ends
# (nodejs/node#54918).
node_step() {
  report=build/report/node-$1.json
  bin=$(node_bin "$1")
  step "node $1" jest "$report" 2400 env PATH="$bin:$PATH" "$bin/node" \
    --no-concurrent-recompilation --no-concurrent-sparkplug node_modules/jest/bin/jest.js --ci --json --outputFile="$report"
}

test_node() {
  node_step "$node_version"
  for version in $node_load_versions; do
    bin=$(node_bin "$version")
    step "node $version (loads)" exit - 120 env PATH="$bin:$PATH" "$bin/node" tests/node/load.js
  done
}

# The whole public interface once. Of leaks the interpreters have many of their own;
# those of memguard are found by the suites.
valgrind_step() {
  label=$1
  shift
  step "valgrind $label" exit - 600 env PYTHONMALLOC=malloc valgrind -q \
    --error-exitcode=99 --leak-check=no --num-callers=20 "$@"
}

more_node() {
  for version in $node_versions_more; do further node_step "$version"; done
  mkdir -p build/valgrind
  # Without V8's compiled code, which valgrind would have to translate anew.
  further valgrind_step node --suppressions=tests/valgrind/node.supp \
    "$(node_bin "$node_version")/node" --jitless --no-warnings --expose-gc \
    tests/node/fixtures/leaks.js --unused build/valgrind
}

test_types() {
  step 'types mypy' exit - 300 .venv/bin/mypy --strict tests/python/typing_user.py
  step 'types tsc' exit - 300 node node_modules/typescript/bin/tsc -p tests/node/tsconfig.json
}

test_cli() { pytest_step cli .venv tests/cli; }

test_abuse() { pytest_step abuse .venv tests/abuse; }
more_abuse() { further test_abuse; }

# Packages of all kinds, made and then used where nothing compiles.
test_package() {
  rm -rf build/package
  step 'package (other processor)' exit - 1200 .venv/bin/python packages/cross.py
  step 'package (made)' exit - 1800 .venv/bin/python packages/make.py --all build/package
  pytest_step package .venv tests/package
}
more_package() { further test_package; }

test_musl() { pytest_step musl .venv tests/musl; }
more_musl() { further test_musl; }

# A real Prometheus scrapes for five minutes.
scrape_seconds=12
long_cli() {
  scrape_seconds=300
  pytest_step 'cli prometheus' .venv tests/cli/test_prometheus.py
  scrape_seconds=12
}

more_cli() { further long_cli; }

test_docs() { pytest_step docs .venv tests/docs; }

# The dashboard in a browser; its pictures stay in build/report/web.
test_web() {
  report=build/report/web.json
  bin=$(node_bin "$node_version")
  step web jest "$report" 2400 env PATH="$bin:$PATH" "$bin/node" \
    --no-concurrent-recompilation --no-concurrent-sparkplug \
    node_modules/jest/bin/jest.js --ci --config tests/web/jest.config.js \
    --json --outputFile="$PWD/$report"
}

test_demo() { pytest_step demo .venv tests/demo; }

# in_lanes LANES SUITE...: LANES is test, or more for what --all adds. First core, which
# keeps all processors busy by itself; the others mostly wait, or work on one alone, and
# so run in two lanes at a time, each a shell of its own.
in_lanes() {
  lanes=$1 one='' two=''
  shift
  for suite; do
    case $lanes$suite in
      testcore) test_core ;;
      morecore)
        more_core
        one="$one fuzz"
        ;;
      *python | *docs | *types | *web) one="$one $suite" ;;
      *) two="$two $suite" ;;
    esac
  done
  lane "$lanes" "$one" &
  first=$!
  lane "$lanes" "$two" &
  child="$first $!"
  wait "$first" || lost "$one"
  wait "${child#* }" || lost "$two"
  child=''
}
lane() {
  child=''
  trap 'stop_child 143' TERM HUP
  for suite in $2; do "$1_$suite"; done
}
lost() { record step "suites$1" exit - 1 0 /dev/null || :; }

# further COMMAND...: one step of --all, unless the time to begin it is over.
further() {
  if [ "$within_s" != 0 ] && [ $(($(date +%s) - began_s)) -ge "$within_s" ]; then
    say "not run, the time is over: $*"
  else
    "$@"
  fi
}

# setup_suites SUITE...: what only some need.
setup_suites() {
  for suite; do
    # shellcheck disable=SC2086 # lists of words
    case $suite in
      abuse) setup_system $packages_abuse ;;
      musl) setup_system $packages_musl ;;
      package)
        setup_package
        setup_cross
        ;;
    esac
  done
}

command_test() {
  all=0 within_s=0 began_s=$(date +%s) chosen=''
  while [ $# != 0 ]; do
    case " $suites $suites_more --all --within " in
      *" $1 "*) ;;
      *) die "test: \"$1\" is neither --all, --within nor one of: $suites $suites_more" ;;
    esac
    case $1 in
      --all) all=1 ;;
      --within)
        all=1
        case ${2:-} in '' | *[!0-9]* | 0*) die "test: --within needs minutes, a whole number above 0" ;; esac
        within_s=$(($2 * 60))
        shift ;;
      *) chosen="$chosen $1" ;;
    esac
    shift
  done
  chosen_by_name=$chosen chosen=${chosen:-$suites} more='' pythons=.venv
  if [ "$all" = 1 ]; then
    for suite in $chosen; do
      case $suite in core | python | node | cli) more="$more $suite" ;; esac
    done
    [ -n "$chosen_by_name" ] || more="$more $suites_more"
  fi
  lock
  setup_tests
  # shellcheck disable=SC2086 # lists of words
  setup_suites $chosen $more
  if [ "$all" = 1 ]; then
    setup_other_pythons
    pythons=$(echo .venv*)
  fi
  rm -rf build/report/again
  mkdir -p build/report/again
  : >build/report/steps
  case $chosen in *node* | *cli* | *docs* | *web* | *abuse* | *demo* | *package*) build_release ;; esac
  # shellcheck disable=SC2086 # a list of folders
  case $chosen in *python* | *cli* | *docs* | *web* | *abuse* | *demo* | *types*) build_extensions $pythons ;; esac
  unlock
  # shellcheck disable=SC2086 # lists of words
  in_lanes test $chosen
  # shellcheck disable=SC2086
  in_lanes more $more
  second_looks
  .venv/bin/python tests/tally.py total build/report/steps
}
