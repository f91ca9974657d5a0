# Twill. `make lab` and `make test` are all a newcomer needs; `make help` lists the rest.
MAKEFLAGS += --no-print-directory
NODE = $(firstword $(wildcard node_modules/node-linux-*/bin/node))
IFACE ?= eth1
BACKEND ?= vxlan
NODES ?= 3
SEGMENTS ?= 1

.PHONY: help setup lab lab-down test bench check fix clean

help:
	@printf '%s\n' \
	  'make lab              install what is missing, build a three-node lab and tell its story' \
	  '         IFACE=                          the NAT trap' \
	  '         BACKEND=host-gw                 or vxlan-direct, "vxlan VNI=7 Port=4789 MTU=1400"' \
	  '         NODES=5                         1 to 9' \
	  '         SEGMENTS=2                      two switches with a router between the nodes' \
	  '         TWILL_LAB=second                another lab beside the first' \
	  'make lab-down         remove every trace of the lab' \
	  'make test             every test; the last line is "N passed, N failed" (KIND=unit|kernel|lab|slow for one kind)' \
	  'make bench [NAME=…]   benchmarks beside their peers; each ends in one line "bench: …"' \
	  'make simulate [SEEDS=…] generated histories of the agent in simulated time; 100,000 by default' \
  'make test-vm          kernel tests and a lab on another kernel, in QEMU (KERNEL=6.1 or 5.15; FILES=… for some; docs/kernel.md)' \
  'make check            types, format, lint' \
	  'make fix              format and mend what can be mended' \
	  'make clean            remove what was built'

setup:
	@tools/setup.sh lab

lab:
	@printf 'Twill: three Kubernetes nodes on this machine, from nothing to a curl between pods.\n'
	@[ "$$(id -u)" = 0 ] || { printf 'make lab needs root: it makes network namespaces. Run it as root, or with sudo.\n' >&2; exit 2; }
	@tools/setup.sh lab
	@bin/twill lab up --iface='$(IFACE)' --backend='$(BACKEND)' --nodes='$(NODES)' --segments='$(SEGMENTS)'

lab-down:
	@bin/twill lab down

test:
	@tools/setup.sh test
	@$(MAKE) run-tests

.PHONY: run-tests
run-tests:
	@$(NODE) tools/test.ts $(if $(KIND),--kind $(KIND)) $(FILES)

.PHONY: test-vm run-test-vm
KERNEL ?= 6.1
test-vm:
	@tools/setup.sh vm
	@$(MAKE) run-test-vm

run-test-vm:
	@$(NODE) tools/vm/run.ts --kernel '$(KERNEL)' $(FILES)

bench:
	@tools/setup.sh test
	@$(MAKE) run-bench

.PHONY: run-bench
run-bench:
	@$(NODE) tools/bench/run.ts $(NAME)

.PHONY: simulate
SEEDS ?= 100000
simulate:
	@tools/setup.sh test
	@$(MAKE) run-simulation

.PHONY: run-simulation
run-simulation:
	@$(NODE) tools/simulate.ts --seeds $(SEEDS)

check:
	@node_modules/.bin/tsc --noEmit && node_modules/.bin/biome check --error-on-warnings .

fix:
	@node_modules/.bin/biome check --write .

clean:
	@rm -rf dist bench/results
