# Every target works on a fresh clone: it makes the virtual environment it needs in .venv first.
PYTHON ?= python3
BOOKS ?= data/sample
BIN := .venv/bin

.PHONY: help setup story test check bench bench-training evolution clean

help:
	@echo "make setup   a virtual environment in .venv with everything the commands need"
	@echo "make story   train a small model on data/sample (minutes, on the CPU) and let it write a story"
	@echo "make test    the whole test suite"
	@echo "make check   formatting, lint, strict types, fast tests: one yes or no, in two minutes on two cores"
	@echo "make bench   the benchmarks; BOOKS=PATH, PAIRS=PATH give them real texts, HELD_OUT=FILE names books to measure on"
	@echo "make bench-training   our minutes of training beside AdamW's, the seed's and nanoGPT's recipes: hours; BOOKS, HELD_OUT as above"
	@echo "make evolution   what each change from the seed's design is worth (docs/evolution.md): an hour and a half; BOOKS as above"

setup: .venv/ready
.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

story: .venv/ready
	$(BIN)/python LLM-BPE.py --stage pretrain --dataset sample --run runs/sample --device cpu --preset nano --steps 140 --eval-every 20
	$(BIN)/python LLM-BPE.py --stage finetune --dataset sample --run runs/sample --device cpu --steps 80 --eval-every 40 --lr 0.003
	$(BIN)/python LLM-Generate.py "A man in a sinking ship" --run runs/sample --device cpu --seed 1

test: .venv/ready-dev
	$(BIN)/python -m pytest

check: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto

bench: .venv/ready-dev
	$(BIN)/python -m benchmarks.bpe --texts $(BOOKS)
	$(BIN)/python -m benchmarks.compression --texts $(BOOKS) $(if $(HELD_OUT),--held-out $(HELD_OUT)) $(if $(PAIRS),--pairs $(PAIRS))
	$(BIN)/python -m benchmarks.worst_cases
	$(BIN)/python -m benchmarks.prepare --texts $(BOOKS)
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.generation

bench-training: .venv/ready-dev
	$(BIN)/python -m benchmarks.training --texts $(BOOKS) $(if $(HELD_OUT),--held-out $(HELD_OUT))

evolution: .venv/ready-dev
	$(BIN)/python -m benchmarks.evolution --texts $(BOOKS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
