# claimd's image: built with the pinned toolchain, and then nothing but the program and what it is linked to.
#
#   docker build -t claimd .
#   docker run --read-only -v claimd-data:/var/lib/claimd -p 8080:8080 -p 1883:1883 -p 5683:5683/udp claimd
#
# It runs as user 65532 and writes nowhere but in /var/lib/claimd. docs/operators.md has the rest.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p claimd
RUN sh examples/deploy/image/assemble.sh target/release/claimd /image

FROM scratch
COPY --from=build /image /
USER 65532:65532
WORKDIR /var/lib/claimd
# In a container the loopback is nobody else's. The operators' listener stays there; a balancer that asks /readyz needs
# CLAIMD_ADMIN__BIND=0.0.0.0:9464 on a network of its own.
ENV CLAIMD_SERVER__DATA_DIR=/var/lib/claimd \
    CLAIMD_HTTP__BIND=0.0.0.0:8080 \
    CLAIMD_MQTT__BIND=0.0.0.0:1883 \
    CLAIMD_MQTT__WS_BIND=0.0.0.0:8083 \
    CLAIMD_COAP__BIND=0.0.0.0:5683
VOLUME /var/lib/claimd
EXPOSE 8080/tcp 1883/tcp 8083/tcp 5683/udp
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/local/bin/claimd", "health"]
ENTRYPOINT ["/usr/local/bin/claimd"]
CMD ["serve"]
