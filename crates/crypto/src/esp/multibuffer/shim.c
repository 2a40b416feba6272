/*
 * ESP batches on intel-ipsec-mb.
 *
 * The library interleaves many packets in the vector lanes of one core. Its managers are structures of function
 * pointers called through macros, which only C can use; this file turns them into four functions over whole batches.
 * Lengths were checked by the caller (esp/mod.rs): every packet has a whole number of blocks, at least one.
 */
#include <intel-ipsec-mb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum cipher { CIPHER_DES, CIPHER_TRIPLE_DES, CIPHER_AES_CBC, CIPHER_AES_GCM };
enum integrity { HMAC_NONE, HMAC_MD5, HMAC_SHA1, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512 };

#define HEADER_LEN 8
#define GCM_SALT_LEN 4
#define GCM_ICV_LEN 16
#define MAX_ICV_LEN 32
#define MAX_HASH_BLOCK 128
/* Packets worked on at a time; the caller's batches are no larger. */
#define BATCH 64

struct multibuffer_packet {
	uint8_t *bytes;         /* from the SPI on */
	uint32_t encrypted_len; /* octets between IV and ICV */
	uint32_t authentic;     /* out, when opening */
};

struct multibuffer_key {
	struct gcm_key_data gcm;
	uint8_t encrypt_schedule[16 * 15] __attribute__((aligned(16)));
	uint8_t decrypt_schedule[16 * 15] __attribute__((aligned(16)));
	uint64_t des_schedules[3][IMB_DES_KEY_SCHED_SIZE / 8];
	const void *des_pointers[3];
	uint8_t inner[IMB_SHA512_DIGEST_SIZE_IN_BYTES] __attribute__((aligned(16)));
	uint8_t outer[IMB_SHA512_DIGEST_SIZE_IN_BYTES] __attribute__((aligned(16)));
	uint8_t salt[GCM_SALT_LEN];
	enum cipher cipher;
	IMB_CIPHER_MODE mode;
	IMB_HASH_ALG hash;
	uint32_t key_len;
	uint32_t iv_len;
	uint32_t icv_len;
};

IMB_MGR *multibuffer_manager_new(void)
{
	if (imb_get_version() < IMB_VERSION(1, 2, 0))
		return NULL;
	IMB_MGR *manager = alloc_mb_mgr(0);
	if (manager == NULL)
		return NULL;
	init_mb_mgr_auto(manager, NULL);
	if (imb_get_errno(manager) != 0) {
		free_mb_mgr(manager);
		return NULL;
	}
	return manager;
}

void multibuffer_manager_free(IMB_MGR *manager)
{
	free_mb_mgr(manager);
}

static void prepare_hmac(IMB_MGR *manager, struct multibuffer_key *key, enum integrity integrity,
			 const uint8_t *secret, size_t secret_len)
{
	uint8_t block[MAX_HASH_BLOCK];
	for (int outer = 0; outer < 2; outer++) {
		uint8_t *state = outer ? key->outer : key->inner;
		memset(block, outer ? 0x5c : 0x36, sizeof(block));
		for (size_t i = 0; i < secret_len && i < sizeof(block); i++)
			block[i] ^= secret[i];
		switch (integrity) {
		case HMAC_NONE:
			break;
		case HMAC_MD5:
			IMB_MD5_ONE_BLOCK(manager, block, state);
			break;
		case HMAC_SHA1:
			IMB_SHA1_ONE_BLOCK(manager, block, state);
			break;
		case HMAC_SHA256:
			IMB_SHA256_ONE_BLOCK(manager, block, state);
			break;
		case HMAC_SHA384:
			IMB_SHA384_ONE_BLOCK(manager, block, state);
			break;
		case HMAC_SHA512:
			IMB_SHA512_ONE_BLOCK(manager, block, state);
			break;
		}
	}
	explicit_bzero(block, sizeof(block));
}

/* NULL when memory is short or the algorithms are not among those above. */
struct multibuffer_key *multibuffer_key_new(IMB_MGR *manager, uint32_t cipher, uint32_t key_len, uint32_t integrity,
					    uint32_t iv_len, uint32_t icv_len, const uint8_t *cipher_key,
					    const uint8_t *integrity_key, size_t integrity_key_len)
{
	static const IMB_HASH_ALG hashes[] = {IMB_AUTH_NULL,	     IMB_AUTH_MD5,	    IMB_AUTH_HMAC_SHA_1,
					      IMB_AUTH_HMAC_SHA_256, IMB_AUTH_HMAC_SHA_384, IMB_AUTH_HMAC_SHA_512};
	if (integrity >= sizeof(hashes) / sizeof(hashes[0]) || icv_len > MAX_ICV_LEN)
		return NULL;
	size_t size = (sizeof(struct multibuffer_key) + 63) / 64 * 64;
	struct multibuffer_key *key = aligned_alloc(64, size);
	if (key == NULL)
		return NULL;
	memset(key, 0, size);
	key->cipher = (enum cipher)cipher;
	key->key_len = key_len;
	key->iv_len = iv_len;
	key->icv_len = icv_len;
	key->hash = hashes[integrity];
	prepare_hmac(manager, key, (enum integrity)integrity, integrity_key, integrity_key_len);

	switch (key->cipher) {
	case CIPHER_DES:
		key->mode = IMB_CIPHER_DES;
		IMB_DES_KEYSCHED(manager, key->des_schedules[0], cipher_key);
		return key;
	case CIPHER_TRIPLE_DES:
		key->mode = IMB_CIPHER_DES3;
		for (int i = 0; i < 3; i++) {
			IMB_DES_KEYSCHED(manager, key->des_schedules[i], cipher_key + 8 * i);
			key->des_pointers[i] = key->des_schedules[i];
		}
		return key;
	case CIPHER_AES_CBC:
		key->mode = IMB_CIPHER_CBC;
		switch (key_len) {
		case 16:
			IMB_AES_KEYEXP_128(manager, cipher_key, key->encrypt_schedule, key->decrypt_schedule);
			return key;
		case 24:
			IMB_AES_KEYEXP_192(manager, cipher_key, key->encrypt_schedule, key->decrypt_schedule);
			return key;
		case 32:
			IMB_AES_KEYEXP_256(manager, cipher_key, key->encrypt_schedule, key->decrypt_schedule);
			return key;
		}
		break;
	case CIPHER_AES_GCM:
		memcpy(key->salt, cipher_key + key_len, GCM_SALT_LEN);
		switch (key_len) {
		case 16:
			IMB_AES128_GCM_PRE(manager, cipher_key, &key->gcm);
			return key;
		case 24:
			IMB_AES192_GCM_PRE(manager, cipher_key, &key->gcm);
			return key;
		case 32:
			IMB_AES256_GCM_PRE(manager, cipher_key, &key->gcm);
			return key;
		}
		break;
	}
	free(key);
	return NULL;
}

void multibuffer_key_free(struct multibuffer_key *key)
{
	explicit_bzero(key, sizeof(*key));
	free(key);
}

static IMB_JOB *blank(IMB_JOB *job, const struct multibuffer_key *key)
{
	job->cipher_mode = IMB_CIPHER_NULL;
	job->hash_alg = IMB_AUTH_NULL;
	job->key_len_in_bytes = key->key_len;
	job->iv_len_in_bytes = key->iv_len;
	return job;
}

static void set_cipher(IMB_JOB *job, const struct multibuffer_key *key, const struct multibuffer_packet *packet)
{
	job->cipher_mode = key->mode;
	switch (key->cipher) {
	case CIPHER_DES:
		job->enc_keys = job->dec_keys = key->des_schedules[0];
		break;
	case CIPHER_TRIPLE_DES:
		job->enc_keys = job->dec_keys = key->des_pointers;
		break;
	default:
		job->enc_keys = key->encrypt_schedule;
		job->dec_keys = key->decrypt_schedule;
		break;
	}
	job->iv = packet->bytes + HEADER_LEN;
	job->src = packet->bytes;
	job->dst = packet->bytes + HEADER_LEN + key->iv_len;
	job->cipher_start_src_offset_in_bytes = HEADER_LEN + key->iv_len;
	job->msg_len_to_cipher_in_bytes = packet->encrypted_len;
}

static void set_hash(IMB_JOB *job, const struct multibuffer_key *key, const struct multibuffer_packet *packet,
		     uint8_t *tag)
{
	job->hash_alg = key->hash;
	job->u.HMAC._hashed_auth_key_xor_ipad = key->inner;
	job->u.HMAC._hashed_auth_key_xor_opad = key->outer;
	job->src = packet->bytes;
	job->hash_start_src_offset_in_bytes = 0;
	job->msg_len_to_hash_in_bytes = HEADER_LEN + key->iv_len + packet->encrypted_len;
	job->auth_tag_output = tag;
	job->auth_tag_output_len_in_bytes = key->icv_len;
}

/* Counts finished jobs; every job must end with success. */
static size_t finished(const IMB_JOB *job)
{
	return job != NULL && job->status == IMB_STATUS_COMPLETED;
}

static size_t submit(IMB_MGR *manager)
{
	size_t done = finished(IMB_SUBMIT_JOB(manager));
	while (1) {
		const IMB_JOB *job = IMB_GET_COMPLETED_JOB(manager);
		if (job == NULL)
			return done;
		done += finished(job);
	}
}

static size_t flush(IMB_MGR *manager)
{
	size_t done = 0;
	while (1) {
		const IMB_JOB *job = IMB_FLUSH_JOB(manager);
		if (job == NULL)
			return done;
		done += finished(job);
	}
}

static int equal_in_constant_time(const uint8_t *left, const uint8_t *right, size_t len)
{
	volatile uint8_t difference = 0;
	for (size_t i = 0; i < len; i++)
		difference |= left[i] ^ right[i];
	return difference == 0;
}

static uint8_t *icv_of(const struct multibuffer_key *key, const struct multibuffer_packet *packet)
{
	return packet->bytes + HEADER_LEN + key->iv_len + packet->encrypted_len;
}

static void gcm(IMB_MGR *manager, const struct multibuffer_key *key, const struct multibuffer_packet *packet,
		int encrypt, uint8_t *tag)
{
	struct gcm_context_data context;
	uint8_t nonce[16];
	uint8_t *text = packet->bytes + HEADER_LEN + key->iv_len;
	memcpy(nonce, key->salt, GCM_SALT_LEN);
	memcpy(nonce + GCM_SALT_LEN, packet->bytes + HEADER_LEN, 8);
#define RUN(bits, way)                                                                                              \
	IMB_AES##bits##_GCM_##way(manager, &key->gcm, &context, text, text, packet->encrypted_len, nonce,           \
				  packet->bytes, HEADER_LEN, tag, GCM_ICV_LEN)
	switch (key->key_len) {
	case 16:
		if (encrypt)
			RUN(128, ENC);
		else
			RUN(128, DEC);
		break;
	case 24:
		if (encrypt)
			RUN(192, ENC);
		else
			RUN(192, DEC);
		break;
	default:
		if (encrypt)
			RUN(256, ENC);
		else
			RUN(256, DEC);
		break;
	}
#undef RUN
}

/* The calls for one algorithm at a time know AES and SHA only; they are faster, most of all for short packets. */
static int has_bursts(const struct multibuffer_key *key)
{
	return key->cipher == CIPHER_AES_CBC && key->hash != IMB_AUTH_MD5;
}

/* The packets whose number is in `chosen` are encrypted or decrypted; 0 on success. */
static int cipher_all(IMB_MGR *manager, const struct multibuffer_key *key, const struct multibuffer_packet *packets,
		      const uint8_t *chosen, size_t count, IMB_CIPHER_DIRECTION direction)
{
	if (has_bursts(key)) {
		IMB_JOB jobs[BATCH];
		memset(jobs, 0, count * sizeof(jobs[0]));
		for (size_t i = 0; i < count; i++)
			set_cipher(blank(&jobs[i], key), key, &packets[chosen[i]]);
		return IMB_SUBMIT_CIPHER_BURST(manager, jobs, count, key->mode, direction, key->key_len) == count ? 0 : -1;
	}
	size_t done = 0;
	for (size_t i = 0; i < count; i++) {
		IMB_JOB *job = blank(IMB_GET_NEXT_JOB(manager), key);
		set_cipher(job, key, &packets[chosen[i]]);
		job->cipher_direction = direction;
		job->chain_order = IMB_ORDER_CIPHER_HASH;
		done += submit(manager);
	}
	done += flush(manager);
	return done == count ? 0 : -1;
}

/* Tag i of packet i goes to tags[i]; 0 on success. */
static int hash_all(IMB_MGR *manager, const struct multibuffer_key *key, const struct multibuffer_packet *packets,
		    uint8_t **tags, size_t count)
{
	if (has_bursts(key)) {
		IMB_JOB jobs[BATCH];
		memset(jobs, 0, count * sizeof(jobs[0]));
		for (size_t i = 0; i < count; i++)
			set_hash(blank(&jobs[i], key), key, &packets[i], tags[i]);
		return IMB_SUBMIT_HASH_BURST(manager, jobs, count, key->hash) == count ? 0 : -1;
	}
	size_t done = 0;
	for (size_t i = 0; i < count; i++) {
		IMB_JOB *job = blank(IMB_GET_NEXT_JOB(manager), key);
		set_hash(job, key, &packets[i], tags[i]);
		job->cipher_direction = IMB_DIR_ENCRYPT;
		job->chain_order = IMB_ORDER_HASH_CIPHER;
		done += submit(manager);
	}
	done += flush(manager);
	return done == count ? 0 : -1;
}

/* 0 when every packet was sealed; at most BATCH of them. */
int multibuffer_seal(IMB_MGR *manager, const struct multibuffer_key *key, struct multibuffer_packet *packets,
		     size_t count)
{
	uint8_t all[BATCH];
	uint8_t *tags[BATCH];
	if (count == 0 || count > BATCH)
		return count == 0 ? 0 : -1;
	for (size_t i = 0; i < count; i++) {
		all[i] = (uint8_t)i;
		tags[i] = icv_of(key, &packets[i]);
	}
	if (key->cipher == CIPHER_AES_GCM) {
		for (size_t i = 0; i < count; i++)
			gcm(manager, key, &packets[i], 1, tags[i]);
		return 0;
	}
	if (cipher_all(manager, key, packets, all, count, IMB_DIR_ENCRYPT) != 0)
		return -1;
	return hash_all(manager, key, packets, tags, count);
}

static int open_gcm(IMB_MGR *manager, const struct multibuffer_key *key, struct multibuffer_packet *packets,
		    size_t count)
{
	uint8_t tag[GCM_ICV_LEN];
	for (size_t i = 0; i < count; i++) {
		gcm(manager, key, &packets[i], 0, tag);
		packets[i].authentic = equal_in_constant_time(tag, icv_of(key, &packets[i]), GCM_ICV_LEN);
		if (!packets[i].authentic)
			explicit_bzero(packets[i].bytes + HEADER_LEN + key->iv_len, packets[i].encrypted_len);
	}
	return 0;
}

/* First all tags, then the decryption of those packets that are authentic: forged ones cost no decryption. */
static int open_cbc(IMB_MGR *manager, const struct multibuffer_key *key, struct multibuffer_packet *packets,
		    size_t count)
{
	uint8_t computed[BATCH][MAX_ICV_LEN];
	uint8_t *tags[BATCH];
	uint8_t authentic[BATCH];
	size_t authentic_count = 0;
	for (size_t i = 0; i < count; i++)
		tags[i] = computed[i];
	if (hash_all(manager, key, packets, tags, count) != 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		packets[i].authentic = equal_in_constant_time(tags[i], icv_of(key, &packets[i]), key->icv_len);
		if (packets[i].authentic)
			authentic[authentic_count++] = (uint8_t)i;
	}
	if (authentic_count == 0)
		return 0;
	return cipher_all(manager, key, packets, authentic, authentic_count, IMB_DIR_DECRYPT);
}

/* 0 when every packet was judged, at most BATCH of them; `authentic` then tells the verdict of each. */
int multibuffer_open(IMB_MGR *manager, const struct multibuffer_key *key, struct multibuffer_packet *packets,
		     size_t count)
{
	if (count == 0 || count > BATCH)
		return count == 0 ? 0 : -1;
	return key->cipher == CIPHER_AES_GCM ? open_gcm(manager, key, packets, count)
					     : open_cbc(manager, key, packets, count);
}
