# The two commands of the README, and what they are made of. Everything runs from .venv.
SHELL := /bin/bash
SECONDS_ARG := $(if $(SECONDS),--seconds $(SECONDS),)
BIN := .venv/bin

.PHONY: help setup setup-test demo test lint format
.DEFAULT_GOAL := help

help:
	@echo "make demo [SECONDS=60]  four live cameras on this machine, analysed; Ctrl-C ends it"
	@echo "make test               every check and test"
	@echo "make setup              only the environment (.venv and Debian packages)"
	@echo "make setup-test         the same, with what only tests need"
	@echo "make lint | format      ruff, mypy and import contracts | rewrite the formatting"

setup:
	@deploy/setup.sh demo

setup-test:
	@deploy/setup.sh test

demo: setup
	@$(BIN)/streamkd demo $(SECONDS_ARG)

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup-test lint
	$(BIN)/pytest -n 2 --dist loadfile  # two at a time: half of them wait for cameras, timeouts and processes
