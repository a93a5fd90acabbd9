/* Sends a photo as it is over MQTT and waits for its answer. C99, libmosquitto, libcrypto; one file, for small cameras.
 *
 * Takes   camera [-h HOST] [-p PORT] [-a CA | -n] [-c FOLDER] [-w SECONDS] [-t ATTEMPTS] DEVICE LABEL PHOTO
 * Gives   the answer as one line of JSON. Exit code 0: answered; 1: something failed; 2: wrong usage.
 * Crash   safe: run it again. A photo that was sent twice is answered as a repeat.
 * Keeps   the photo and one answer in memory, nothing else.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <mosquitto.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    /* The broker cuts the connection of whoever sends more than 8,388,608 bytes, topic included. */
    PHOTO_BYTES_MAX = 8000000,
    DEVICE_BYTES_MAX = 64,
    LABEL_BYTES_MAX = 480, /* 120 characters of up to 4 bytes */
    ANSWER_BYTES_MAX = 16384,
    CONNECT_SECONDS = 30
};

struct camera {
    const char *device;
    char topic[64 + DEVICE_BYTES_MAX + 3 * LABEL_BYTES_MAX];
    char answers[64 + DEVICE_BYTES_MAX];
    char source[sizeof "\"source\":\"sha256:\"" + 64];
    char answer[ANSWER_BYTES_MAX];
    bool connected, subscribed, answered;
    const char *refused; /* why it is of no use to go on */
};

static volatile sig_atomic_t stop;

static void stopped(int number) {
    (void)number;
    stop = 1;
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "camera: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    return 1;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool plain(unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool device_name(const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++)
        if (!plain((unsigned char)name[i])) return false;
    return length >= 1 && length <= DEVICE_BYTES_MAX;
}

/* The label as one level of a topic: a space or a dot would make it another one. */
static void append_label(char *topic, const char *label) {
    char *end = topic + strlen(topic);
    for (; *label; label++) {
        unsigned char c = (unsigned char)*label;
        if (plain(c)) *end++ = (char)c;
        else end += sprintf(end, "%%%02X", c);
    }
    *end = '\0';
}

/* Reads at most `most` bytes; NULL with a message where that fails or the file is longer. */
static unsigned char *read_file(const char *path, size_t most, size_t *length) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = file ? malloc(most + 1) : NULL;
    if (!bytes) {
        fail(path, strerror(errno));
        if (file) fclose(file);
        return NULL;
    }
    *length = fread(bytes, 1, most + 1, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed || *length > most) {
        fail(path, failed ? "could not be read" : "is too large");
        free(bytes);
        return NULL;
    }
    unsigned char *fitting = realloc(bytes, *length + 1);
    return fitting ? fitting : bytes;
}

/* Our photo in this answer? One object, without spaces; `of` in it names another photo, so that part is left out. */
static bool ours(const struct camera *camera, const char *answer) {
    const char *found = strstr(answer, camera->source);
    const char *of = strstr(answer, "\"of\":{");
    const char *of_end = of ? strchr(of, '}') : NULL;
    if (found && of && of_end && found > of && found < of_end) found = strstr(of_end, camera->source);
    return found && strstr(answer, "\"status\":\"");
}

static void on_connect(struct mosquitto *client, void *data, int code) {
    struct camera *camera = data;
    if (code == 4 || code == 5) {
        camera->refused = "the broker knows no device of this name with this password";
        mosquitto_disconnect(client);
    } else if (code == 0) {
        camera->connected = true;
        /* After every connection, as a clean session forgets. QoS 0: the broker keeps no answers for who is away. */
        mosquitto_subscribe(client, NULL, camera->answers, 0);
    }
}

static void on_disconnect(struct mosquitto *client, void *data, int code) {
    struct camera *camera = data;
    (void)client;
    if (code != 0 && camera->connected) fprintf(stderr, "camera: connection lost, trying again\n");
    camera->connected = camera->subscribed = false;
}

static void on_subscribe(struct mosquitto *client, void *data, int id, int count, const int *granted) {
    struct camera *camera = data;
    (void)client, (void)id;
    if (count < 1 || granted[0] > 2) camera->refused = "not allowed to get answers; is it the name this password is for?";
    else camera->subscribed = true;
}

static void on_message(struct mosquitto *client, void *data, const struct mosquitto_message *message) {
    struct camera *camera = data;
    (void)client;
    if (camera->answered || message->payloadlen <= 0 || message->payloadlen >= ANSWER_BYTES_MAX) return;
    memcpy(camera->answer, message->payload, (size_t)message->payloadlen);
    camera->answer[message->payloadlen] = '\0';
    camera->answered = ours(camera, camera->answer);
}

/* Lets the client work until `done`, until it is refused, or for some seconds. Connects again where it has to. */
static void work(struct mosquitto *client, struct camera *camera, const bool *done, double seconds) {
    double end = now() + seconds, again = 0;
    while (!*done && !camera->refused && !stop && now() < end) {
        int code = mosquitto_loop(client, 200, 1);
        if (code == MOSQ_ERR_SUCCESS || camera->refused) continue;
        if (now() >= again) {
            again = now() + 5;
            code = mosquitto_reconnect(client);
            if (code == MOSQ_ERR_TLS) camera->refused = "no TLS with the broker: wrong CA (-a), wrong name, or none there (-n)";
        }
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
}

static int send_photo(struct mosquitto *client, struct camera *camera, const unsigned char *photo, size_t length, double wait,
                      long attempts) {
    work(client, camera, &camera->subscribed, CONNECT_SECONDS);
    if (!camera->subscribed && !camera->refused && !stop)
        return fail("the broker does not speak MQTT with us", "TLS, or not (-n)?");
    for (long attempt = 0; attempt < attempts && !camera->answered && !camera->refused && !stop; attempt++) {
        if (attempt) fprintf(stderr, "camera: no answer in %g s, sending again\n", wait);
        /* Nothing is learnt from the PUBACK. Never retained: the broker would keep the photo. */
        int code = mosquitto_publish(client, NULL, camera->topic, (int)length, photo, 1, false);
        if (code != MOSQ_ERR_SUCCESS && code != MOSQ_ERR_NO_CONN) return fail("could not send", mosquitto_strerror(code));
        work(client, camera, &camera->answered, wait);
    }
    if (camera->answered) {
        puts(camera->answer);
        return 0;
    }
    if (camera->refused) return fail(camera->refused, NULL);
    if (stop) return 130;
    return fail("not answered. The broker drops without a word what this device may not send; else the hub is away, full or"
                " slow: send it again later", NULL);
}

int main(int count, char **arguments) {
    const char *host = "localhost", *ca = "/etc/ssl/certs/ca-certificates.crt", *folder = ".";
    long port = 0, attempts = 3;
    double wait = 300;
    bool tls = true;
    for (int option; (option = getopt(count, arguments, "h:p:a:nc:w:t:")) != -1;) {
        switch (option) {
            case 'h': host = optarg; break;
            case 'p': port = strtol(optarg, NULL, 10); break;
            case 'a': ca = optarg; break;
            case 'n': tls = false; break; /* password and photo can be read on the way */
            case 'c': folder = optarg; break;
            case 'w': wait = strtod(optarg, NULL); break;
            case 't': attempts = strtol(optarg, NULL, 10); break;
            default: return 2;
        }
    }
    if (count - optind != 3 || wait <= 0 || attempts < 1 || port < 0 || port > 65535) {
        fprintf(stderr, "usage: camera [-h HOST] [-p PORT] [-a CA | -n] [-c FOLDER] [-w SECONDS] [-t ATTEMPTS]"
                        " DEVICE LABEL PHOTO\n");
        return 2;
    }
    static struct camera camera;
    const char *label = arguments[optind + 1], *path = arguments[optind + 2];
    camera.device = arguments[optind];
    if (!device_name(camera.device) || !*label || strlen(label) > LABEL_BYTES_MAX) {
        fail("a device is 1 to 64 letters, digits, `-` or `_`; a label 1 to 120 characters", NULL);
        return 2;
    }
    if (!port) port = tls ? 8883 : 1883;
    sprintf(camera.topic, "dih/v1/raw/%s/", camera.device);
    append_label(camera.topic, label);
    sprintf(camera.answers, "dih/v1/answer/%s/json", camera.device);

    char password_path[4096];
    if (snprintf(password_path, sizeof password_path, "%s/%s.password", folder, camera.device) >= (int)sizeof password_path)
        return fail(folder, "is too long");
    size_t length, password_length;
    char *password = (char *)read_file(password_path, 1024, &password_length);
    if (!password) return 1;
    password[password_length] = '\0';
    password[strcspn(password, "\r\n")] = '\0';
    unsigned char *photo = read_file(path, PHOTO_BYTES_MAX, &length);
    if (!photo) return 1;

    unsigned char digest[EVP_MAX_MD_SIZE];
    if (!EVP_Digest(photo, length, digest, NULL, EVP_sha256(), NULL)) return fail("no SHA-256", NULL);
    char *end = camera.source + sprintf(camera.source, "\"source\":\"sha256:");
    for (int i = 0; i < 32; i++) end += sprintf(end, "%02x", digest[i]);
    strcpy(end, "\"");

    signal(SIGINT, stopped);
    signal(SIGTERM, stopped);
    mosquitto_lib_init();
    /* The client id is the name of the device: two clients of one id throw each other out. */
    struct mosquitto *client = mosquitto_new(camera.device, true, &camera);
    if (!client) return fail("no client", strerror(errno));
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_disconnect_callback_set(client, on_disconnect);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_message_callback_set(client, on_message);
    int code = mosquitto_username_pw_set(client, camera.device, password);
    if (!code && tls) code = mosquitto_tls_set(client, ca, NULL, NULL, NULL, NULL);
    if (code) return fail(tls ? ca : "settings", mosquitto_strerror(code));
    code = mosquitto_connect(client, host, (int)port, 30);
    int result;
    if (code) result = fail(host, code == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(code));
    else result = send_photo(client, &camera, photo, length, wait, attempts);
    mosquitto_disconnect(client);
    mosquitto_destroy(client);
    mosquitto_lib_cleanup();
    free(photo);
    free(password);
    return result;
}
