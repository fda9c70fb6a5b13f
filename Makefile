# Every target does its own set-up: dev/setup installs what is missing and says so.
.PHONY: help demo test torture bench check

help:
	@echo "make demo    a primary and a standby on this machine, with problems planted, and surus check on them"
	@echo "make test    every test, against the PostgreSQL majors that can be had here"
	@echo "make torture the long forms of the tests that kill, damage and fill things; hours"
	@echo "make bench   every benchmark, with its peers beside it"
	@echo "make check   formatting, lints, house rules, generated pages"

demo:
	@dev/setup
	cargo run --quiet --package surus -- demo

test:
	@dev/test

torture:
	@dev/torture

bench:
	@dev/bench

check:
	@dev/check
