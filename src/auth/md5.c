/* MD5 passwords; see auth/md5.h. */
#include "auth/md5.h"

#include "core/check.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define MD5_PREFIX     "md5"
#define MD5_PREFIX_LEN 3u
#define MD5_BYTES      16u

bool md5_is_secret(struct bytes secret) {
    if (secret.len != MD5_SECRET_LEN || memcmp(secret.at, MD5_PREFIX, MD5_PREFIX_LEN) != 0)
        return false;
    for (size_t i = MD5_PREFIX_LEN; i < secret.len; i++) {
        char c = secret.at[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return false;
    }
    return true;
}

/* "md5", the hash of both parts in hex, and a NUL. */
static bool hash(char text[MD5_SECRET_LEN + 1], struct bytes first, struct bytes second) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ERR_clear_error();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(context != NULL);
    bool is_done = EVP_DigestInit_ex(context, EVP_md5(), NULL) == 1 &&
                   EVP_DigestUpdate(context, first.at, first.len) == 1 &&
                   EVP_DigestUpdate(context, second.at, second.len) == 1 &&
                   EVP_DigestFinal_ex(context, digest, &len) == 1 && len == MD5_BYTES;
    EVP_MD_CTX_free(context);
    if (!is_done) return false;
    memcpy(text, MD5_PREFIX, MD5_PREFIX_LEN);
    for (size_t i = 0; i < MD5_BYTES; i++) {
        text[MD5_PREFIX_LEN + 2 * i] = digits[digest[i] >> 4];
        text[MD5_PREFIX_LEN + 2 * i + 1] = digits[digest[i] & 15];
    }
    text[MD5_SECRET_LEN] = '\0';
    return true;
}

bool md5_secret(char secret[MD5_SECRET_LEN + 1], struct bytes password, struct bytes user) {
    return hash(secret, password, user);
}

bool md5_answer(char answer[MD5_SECRET_LEN + 1], const char secret[MD5_SECRET_LEN],
                const char salt[MD5_SALT_BYTES]) {
    return hash(answer, bytes_of(secret + MD5_PREFIX_LEN, MD5_SECRET_LEN - MD5_PREFIX_LEN),
                bytes_of(salt, MD5_SALT_BYTES));
}

void md5_salt(char salt[MD5_SALT_BYTES]) {
    ERR_clear_error();
    CHECK(RAND_bytes((unsigned char *)salt, MD5_SALT_BYTES) == 1);
}
