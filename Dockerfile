# Steerage in a container. docs/operations.md says how it is run and what was tried.
#
#   docker build -t steerage .
#   docker run -p 8787:8787 -e STEERAGE_API_KEY=… -v steerage:/var/lib/steerage --stop-timeout 45 steerage
#
# It listens on every address of its container, which the server refuses to do without an API key: with no
# STEERAGE_API_KEY (or `[keys.NAME]` in a file that STEERAGE_CONFIG names) it says so and ends.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --profile dist --bin steerage

FROM debian:bookworm-slim
# The certificates are for https:// upstreams. Everything else that the binary needs is in the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 steerage \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/steerage --shell /usr/sbin/nologin steerage \
    && install --directory --owner steerage --group steerage --mode 0700 /var/lib/steerage
COPY --from=build /build/target/dist/steerage /usr/local/bin/steerage

USER 10001:10001
WORKDIR /var/lib/steerage
# A new volume takes owner and mode of this folder.
VOLUME /var/lib/steerage
ENV STEERAGE_LISTEN=0.0.0.0:8787 STEERAGE_STORE=disk:/var/lib/steerage
EXPOSE 8787
STOPSIGNAL SIGTERM
# There is no curl here; bash opens a socket by itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/bin/bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8787 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["/usr/local/bin/steerage"]
CMD ["serve"]
