// Says over CoAP, with libcoap, that the device "{{device}}" may be claimed.
//
//   apt-get install libcoap3-dev
//   cc claim.c -o claim $(pkg-config --cflags --libs libcoap-3-notls)
//   ./claim
//
// Set CLAIMD_TOKEN to the device's access token and CLAIMD_SECRET to what its owner will show. Then, as the owner, with
// the secret in code.txt:
//
//   {{confirm}}
//
#include <coap3/coap.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char device[] = {{literal}};
static int done = 0;
static int registered = 0;

static coap_response_t on_response(coap_session_t *session, const coap_pdu_t *sent, const coap_pdu_t *received,
                                   const coap_mid_t mid) {
    (void)session;
    (void)sent;
    (void)mid;
    coap_pdu_code_t code = coap_pdu_get_code(received);
    // 2.01 means registered and visible to owners; a refusal has a text.
    registered = code == COAP_RESPONSE_CODE_CREATED;
    if (!registered) {
        size_t length = 0;
        const uint8_t *text = NULL;
        coap_get_data(received, &length, &text);
        printf("%s: refused: %d.%02d %.*s\n", device, COAP_RESPONSE_CLASS(code), code & 31, (int)length,
               text == NULL ? "" : (const char *)text);
    }
    done = 1;
    return COAP_RESPONSE_OK;
}

static const char *need(const char *name) {
    const char *value = getenv(name);
    if (value == NULL || *value == '\0') {
        fprintf(stderr, "%s is not set\n", name);
        exit(2);
    }
    return value;
}

// Writes a claim message; 0 if there is no room for it.
static int write_claim(char *body, size_t room, const char *secret) {
    size_t at = (size_t)snprintf(body, room, "{\"secretKey\":\"");
    for (; *secret != '\0'; secret++) {
        if (at + 8 > room) return 0;
        unsigned char c = (unsigned char)*secret;
        if (c == '"' || c == '\\') body[at++] = '\\';
        if (c < 0x20)
            at += (size_t)snprintf(body + at, room - at, "\\u%04x", c);
        else
            body[at++] = (char)c;
    }
    int rest = snprintf(body + at, room - at, "\",\"durationMs\":600000}");
    return (size_t)rest < room - at;
}

static int find_server(coap_address_t *peer) {
    struct addrinfo hints, *found = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_DGRAM;
    if (getaddrinfo({{host_literal}}, "{{port}}", &hints, &found) != 0) return 0;
    coap_address_init(peer);
    peer->size = found->ai_addrlen;
    memcpy(&peer->addr, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 1;
}

int main(void) {
    const char *token = need("CLAIMD_TOKEN");
    char body[2048];
    coap_address_t peer;
    if (!write_claim(body, sizeof body, need("CLAIMD_SECRET"))) {
        fprintf(stderr, "CLAIMD_SECRET is longer than 256 bytes\n");
        return 2;
    }
    coap_startup();
    if (!find_server(&peer)) {
        fprintf(stderr, "the server's address is not known\n");
        return 2;
    }
    coap_context_t *context = coap_new_context(NULL);
    coap_session_t *session = coap_new_client_session(context, NULL, &peer, COAP_PROTO_UDP);
    if (session == NULL) {
        fprintf(stderr, "there is no way to the server\n");
        return 1;
    }
    coap_register_response_handler(context, on_response);
    coap_pdu_t *request = coap_new_pdu(COAP_MESSAGE_CON, COAP_REQUEST_CODE_POST, session);
    // The token is a segment of the path; CoAP needs no encoding of it.
    const char *path[] = {"api", "v1", token, "claim"};
    for (size_t i = 0; i < sizeof path / sizeof *path; i++)
        coap_add_option(request, COAP_OPTION_URI_PATH, strlen(path[i]), (const uint8_t *)path[i]);
    coap_add_data(request, strlen(body), (const uint8_t *)body);
    coap_send(session, request);
    // libcoap sends again until it is acknowledged; after two minutes we give up.
    for (int waited = 0; !done && waited < 120; waited++) coap_io_process(context, 1000);
    coap_session_release(session);
    coap_free_context(context);
    coap_cleanup();
    if (registered) printf("%s: registered\n", device);
    if (!done) printf("%s: no answer\n", device);
    return registered ? 0 : 1;
}
