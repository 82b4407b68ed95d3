# The commands of the README. Each sets up what it needs first; nothing is installed outside the checkout
# but debootstrap, and that only where the base image cannot be pulled; and strace, where it is asked for.
.PHONY: up down test check bench image claims paths timelines screenshots stack lock clean

up:     # every model in a container of its own (no engine: as plain processes)
	@scripts/up.sh

down:   # stop them and leave nothing behind but the images
	@scripts/down.sh

test:   # every suite; make test ARGS='-k epoll_loop --target=process'
	@scripts/test.sh $(ARGS)

check:  # lint, format, types
	@scripts/check.sh

bench:  # every model and a yardstick in C, briefly; make bench ARGS='epoll_loop -c 1,128 --rounds 5'
	@scripts/bench.sh $(ARGS)

claims: # every claim on trial, an hour; writes docs/claims.md; make claims ARGS=--quick takes ten minutes
	@scripts/claims.sh $(ARGS)

paths:  # docs/paths.md anew: what proxies, tunnels and port forwards do to connections; as root
	@scripts/paths.sh

image:  # the image `iolab`, which has every model: docker run --publish 127.0.0.1:8000:8000 iolab
	@scripts/image.sh

timelines:  # record every model under strace again, and draw the pictures of docs/; make timelines ARGS=epoll_loop
	@scripts/timelines.sh $(ARGS)

stack:  # deploy/stack.yml from docker-compose.yml: the models on the nodes of a swarm
	@scripts/stack.sh

screenshots:  # docs/playground/*.png of a playground that runs: make up, or make screenshots ARGS=http://127.0.0.1:8080
	@scripts/screenshots.sh $(ARGS)

lock:   # requirements.lock from pyproject.toml; make lock ARGS=--upgrade
	@scripts/lock.sh $(ARGS)

clean:  # down, then the images, .venv and .tools
	@scripts/clean.sh
