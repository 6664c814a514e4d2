#!/usr/bin/env bash
# Install the browser in which the pages of `--html` are tested, on a Debian where it is missing and we may: run by
# .ci/run. Without it those tests are skipped; with CI set they fail.
set -euo pipefail
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing chromium and chromium-driver" >&2
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 ||
            echo "they could not be installed: tests in a browser will be skipped, or fail where CI is set" >&2
    else
        echo "no chromium or chromedriver, and no right to install them: tests in a browser will be skipped" >&2
    fi
fi
