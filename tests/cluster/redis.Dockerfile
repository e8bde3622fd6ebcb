# Redis for the tests of features on a cluster: Debian's, as a user of its own.
FROM python:3.11-slim-bookworm
RUN apt-get update -q && apt-get install -qy --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
USER 65532:65532
EXPOSE 6379
ENTRYPOINT ["redis-server", "--save", "", "--dir", "/tmp", "--protected-mode", "no"]
