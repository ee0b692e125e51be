# The two commands of the README, and their longer companions. Everything they do is a script that can be run by hand.

.PHONY: run install test test-long bench lint fuzz clean

run:            ## install, build, prepare a guest and boot it to a shell
	scripts/run-guest

install:        ## programs, manual pages, systemd units and settings, below DESTDIR if that is set
	scripts/install build
	scripts/build release
	cmake --install build

test:           ## install, build and run every test
	scripts/test

test-long:      ## what takes too long for every change
	scripts/test-long

bench:          ## side by side with QEMU
	scripts/bench

lint:           ## formatting and static analysis
	scripts/lint

fuzz:           ## every fuzz target for a while: make fuzz SECONDS_EACH=60
	scripts/fuzz $(or $(SECONDS_EACH),20)

clean:
	rm -rf build
