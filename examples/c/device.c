/* A device that speaks CoAP with libcoap: announces itself and says whether that is registered.
 *
 * cc device.c -o device $(pkg-config --cflags --libs libcoap-3-notls)
 * CLAIMD_COAP=127.0.0.1:5683 DEVICE_TOKEN=… CLAIM_SECRET=… ./device
 */
#include <arpa/inet.h>
#include <coap3/coap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int done = 0;
static int registered = 0;

static coap_response_t on_response(coap_session_t *session, const coap_pdu_t *sent, const coap_pdu_t *received,
                                   const coap_mid_t mid) {
    (void)session;
    (void)sent;
    (void)mid;
    coap_pdu_code_t code = coap_pdu_get_code(received);
    registered = code == COAP_RESPONSE_CODE_CREATED;
    if (!registered) {
        size_t length;
        const uint8_t *text;
        printf("refused: %d.%02d", COAP_RESPONSE_CLASS(code), code & 31);
        if (coap_get_data(received, &length, &text)) printf(" %.*s", (int)length, (const char *)text);
        printf("\n");
    }
    done = 1;
    return COAP_RESPONSE_OK;
}

static const char *need(const char *name) {
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "set %s\n", name);
        exit(2);
    }
    return value;
}

int main(void) {
    char host[64];
    snprintf(host, sizeof host, "%s", need("CLAIMD_COAP"));
    char *colon = strrchr(host, ':');
    if (colon == NULL) {
        fprintf(stderr, "CLAIMD_COAP is host:port\n");
        return 2;
    }
    *colon = '\0';
    const char *token = need("DEVICE_TOKEN");
    char body[512];
    /* A secret with quotes or backslashes would have to be escaped. */
    snprintf(body, sizeof body, "{\"secretKey\":\"%s\",\"durationMs\":600000}", need("CLAIM_SECRET"));

    coap_address_t peer;
    coap_address_init(&peer);
    peer.addr.sin.sin_family = AF_INET;
    peer.addr.sin.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &peer.addr.sin.sin_addr) != 1) {
        fprintf(stderr, "CLAIMD_COAP has no IPv4 address\n");
        return 2;
    }
    peer.size = sizeof(struct sockaddr_in);

    coap_startup();
    coap_context_t *context = coap_new_context(NULL);
    coap_session_t *session = coap_new_client_session(context, NULL, &peer, COAP_PROTO_UDP);
    coap_register_response_handler(context, on_response);
    coap_pdu_t *request = coap_new_pdu(COAP_MESSAGE_CON, COAP_REQUEST_CODE_POST, session);
    const char *path[] = {"api", "v1", token, "claim"};
    for (size_t i = 0; i < sizeof path / sizeof *path; i++)
        coap_add_option(request, COAP_OPTION_URI_PATH, strlen(path[i]), (const uint8_t *)path[i]);
    coap_add_data(request, strlen(body), (const uint8_t *)body);
    coap_send(session, request);
    /* libcoap sends again until it is acknowledged; after two minutes we give up. */
    for (int waited = 0; !done && waited < 120; waited++) coap_io_process(context, 1000);
    coap_session_release(session);
    coap_free_context(context);
    coap_cleanup();
    if (registered) printf("registered\n");
    return registered ? 0 : 1;
}
