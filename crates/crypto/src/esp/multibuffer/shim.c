/*
 * ESP batches on intel-ipsec-mb.
 *
 * The library interleaves many packets in the vector lanes of one core. Its managers are structures of function
 * pointers called through macros, which only C can use; this file turns them into functions over whole batches, whose
 * packets may be of different keys of one suite. GCM is parallel within a packet: it takes one at a time.
 * Lengths were checked by the caller (esp/mod.rs): every packet has a whole number of blocks, at least one.
 */
#include <emmintrin.h>
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
/* Up to so many, the library's SHA instructions are the fastest. */
#define FEW 4

struct multibuffer_key;

struct multibuffer_packet {
	uint8_t *bytes; /* from the SPI on */
	const struct multibuffer_key *key;
	uint32_t encrypted_len; /* octets between IV and ICV */
	uint32_t authentic;	/* out, when opening */
};

/* One for each thread. */
struct multibuffer_manager {
	IMB_MGR *library;
	/*
	 * For few packets, where the processor has instructions for SHA: wide vectors that are mostly empty take twice as long,
	 * and longer still after the processor slept. NULL: there are no such instructions.
	 */
	IMB_MGR *for_few;
	/* What no suite here uses stays zero for good: it is not cleared for every packet. */
	IMB_JOB cipher_jobs[BATCH];
	IMB_JOB hash_jobs[BATCH];
};

struct multibuffer_key {
	struct gcm_key_data gcm;
	aes_gcm_enc_dec_t gcm_encrypt;
	aes_gcm_enc_dec_t gcm_decrypt;
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

static IMB_MGR *manager_for_few(void)
{
	IMB_MGR *few = alloc_mb_mgr(0);
	if (few == NULL)
		return NULL;
	init_mb_mgr_sse(few);
	if (imb_get_errno(few) == 0 && few->features & IMB_FEATURE_SHANI)
		return few;
	free_mb_mgr(few);
	return NULL;
}

struct multibuffer_manager *multibuffer_manager_new(void)
{
	if (imb_get_version() < IMB_VERSION(1, 2, 0))
		return NULL;
	struct multibuffer_manager *manager = calloc(1, sizeof(*manager));
	if (manager == NULL)
		return NULL;
	manager->library = alloc_mb_mgr(0);
	if (manager->library != NULL) {
		init_mb_mgr_auto(manager->library, NULL);
		if (imb_get_errno(manager->library) == 0) {
			manager->for_few = manager_for_few();
			return manager;
		}
		free_mb_mgr(manager->library);
	}
	free(manager);
	return NULL;
}

void multibuffer_manager_free(struct multibuffer_manager *manager)
{
	if (manager->for_few != NULL)
		free_mb_mgr(manager->for_few);
	free_mb_mgr(manager->library);
	free(manager);
}

static IMB_MGR *suited(const struct multibuffer_manager *manager, size_t count)
{
	return manager->for_few != NULL && count <= FEW ? manager->for_few : manager->library;
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
struct multibuffer_key *multibuffer_key_new(struct multibuffer_manager *owner, uint32_t cipher, uint32_t key_len, uint32_t integrity,
					    uint32_t iv_len, uint32_t icv_len, const uint8_t *cipher_key,
					    const uint8_t *integrity_key, size_t integrity_key_len)
{
	static const IMB_HASH_ALG hashes[] = {IMB_AUTH_NULL,	     IMB_AUTH_MD5,	    IMB_AUTH_HMAC_SHA_1,
					      IMB_AUTH_HMAC_SHA_256, IMB_AUTH_HMAC_SHA_384, IMB_AUTH_HMAC_SHA_512};
	if (integrity >= sizeof(hashes) / sizeof(hashes[0]) || icv_len > MAX_ICV_LEN)
		return NULL;
	IMB_MGR *manager = owner->library;
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
			key->gcm_encrypt = manager->gcm128_enc;
			key->gcm_decrypt = manager->gcm128_dec;
			return key;
		case 24:
			IMB_AES192_GCM_PRE(manager, cipher_key, &key->gcm);
			key->gcm_encrypt = manager->gcm192_enc;
			key->gcm_decrypt = manager->gcm192_dec;
			return key;
		case 32:
			IMB_AES256_GCM_PRE(manager, cipher_key, &key->gcm);
			key->gcm_encrypt = manager->gcm256_enc;
			key->gcm_decrypt = manager->gcm256_dec;
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

static void set_cipher(IMB_JOB *job, const struct multibuffer_packet *packet)
{
	const struct multibuffer_key *key = packet->key;
	job->cipher_mode = key->mode;
	job->key_len_in_bytes = key->key_len;
	job->iv_len_in_bytes = key->iv_len;
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

static void set_hash(IMB_JOB *job, const struct multibuffer_packet *packet, uint8_t *tag)
{
	const struct multibuffer_key *key = packet->key;
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

/* `len` is a multiple of four; the compiler must not see that the words tell where the first difference is. */
static int equal_in_constant_time(const uint8_t *left, const uint8_t *right, size_t len)
{
	uint32_t difference = 0;
	for (size_t i = 0; i < len; i += 4) {
		uint32_t one, other;
		memcpy(&one, left + i, 4);
		memcpy(&other, right + i, 4);
		difference |= one ^ other;
		__asm__("" : "+r"(difference));
	}
	return difference == 0;
}

static uint8_t *icv_of(const struct multibuffer_packet *packet)
{
	return packet->bytes + HEADER_LEN + packet->key->iv_len + packet->encrypted_len;
}

/* The nonce is written by one store, because the library reads it at once: salt, then the IV behind `header`. */
static __m128i gcm_nonce(const struct multibuffer_key *key, const uint8_t *header)
{
	uint32_t salt, first, second;
	memcpy(&salt, key->salt, 4);
	memcpy(&first, header + HEADER_LEN, 4);
	memcpy(&second, header + HEADER_LEN + 4, 4);
	return _mm_set_epi32(0, (int)second, (int)first, (int)salt);
}

/* Seals one packet of a GCM key in place. */
void multibuffer_gcm_seal(const struct multibuffer_key *key, uint8_t *bytes, size_t encrypted_len)
{
	struct gcm_context_data context;
	__m128i nonce = gcm_nonce(key, bytes);
	uint8_t *text = bytes + HEADER_LEN + 8;
	key->gcm_encrypt(&key->gcm, &context, text, text, encrypted_len, (const uint8_t *)&nonce, bytes, HEADER_LEN,
			 text + encrypted_len, GCM_ICV_LEN);
}

/* Decrypts the packet `from` to `text`, which may be where it stands; 1 if it is authentic, else nothing is in `text`. */
int multibuffer_gcm_open(const struct multibuffer_key *key, const uint8_t *from, uint8_t *text, size_t encrypted_len)
{
	struct gcm_context_data context;
	__m128i nonce = gcm_nonce(key, from);
	uint8_t tag[GCM_ICV_LEN];
	const uint8_t *secret = from + HEADER_LEN + 8;
	key->gcm_decrypt(&key->gcm, &context, text, secret, encrypted_len, (const uint8_t *)&nonce, from, HEADER_LEN, tag,
			 GCM_ICV_LEN);
	int authentic = equal_in_constant_time(tag, secret + encrypted_len, GCM_ICV_LEN);
	if (!authentic)
		explicit_bzero(text, encrypted_len);
	return authentic;
}

/* The calls for one algorithm at a time know AES and SHA only; they are faster, most of all for short packets. */
static int has_bursts(const struct multibuffer_key *key)
{
	return key->cipher == CIPHER_AES_CBC && key->hash != IMB_AUTH_MD5;
}

/* The packets whose number is in `chosen` are encrypted or decrypted; 0 on success. */
static int cipher_all(struct multibuffer_manager *manager, const struct multibuffer_packet *packets,
		      const uint8_t *chosen, size_t count, IMB_CIPHER_DIRECTION direction)
{
	IMB_MGR *library = suited(manager, count);
	const struct multibuffer_key *key = packets[chosen[0]].key;
	if (has_bursts(key)) {
		IMB_JOB *jobs = manager->cipher_jobs;
		for (size_t i = 0; i < count; i++)
			set_cipher(&jobs[i], &packets[chosen[i]]);
		return IMB_SUBMIT_CIPHER_BURST_NOCHECK(library, jobs, count, key->mode, direction, key->key_len) == count ? 0 : -1;
	}
	size_t done = 0;
	for (size_t i = 0; i < count; i++) {
		IMB_JOB *job = IMB_GET_NEXT_JOB(library);
		job->hash_alg = IMB_AUTH_NULL;
		set_cipher(job, &packets[chosen[i]]);
		job->cipher_direction = direction;
		job->chain_order = IMB_ORDER_CIPHER_HASH;
		done += submit(library);
	}
	done += flush(library);
	return done == count ? 0 : -1;
}

/* Tag i of packet i goes to tags[i]; 0 on success. */
static int hash_all(struct multibuffer_manager *manager, const struct multibuffer_packet *packets, uint8_t **tags,
		    size_t count)
{
	IMB_MGR *library = suited(manager, count);
	const struct multibuffer_key *key = packets[0].key;
	if (has_bursts(key)) {
		IMB_JOB *jobs = manager->hash_jobs;
		for (size_t i = 0; i < count; i++)
			set_hash(&jobs[i], &packets[i], tags[i]);
		return IMB_SUBMIT_HASH_BURST_NOCHECK(library, jobs, count, key->hash) == count ? 0 : -1;
	}
	size_t done = 0;
	for (size_t i = 0; i < count; i++) {
		IMB_JOB *job = IMB_GET_NEXT_JOB(library);
		job->cipher_mode = IMB_CIPHER_NULL;
		job->key_len_in_bytes = packets[i].key->key_len;
		job->iv_len_in_bytes = packets[i].key->iv_len;
		set_hash(job, &packets[i], tags[i]);
		job->cipher_direction = IMB_DIR_ENCRYPT;
		job->chain_order = IMB_ORDER_HASH_CIPHER;
		done += submit(library);
	}
	done += flush(library);
	return done == count ? 0 : -1;
}

/* 0 when every packet was sealed; at most BATCH of them. */
int multibuffer_seal(struct multibuffer_manager *manager, struct multibuffer_packet *packets, size_t count)
{
	uint8_t all[BATCH];
	uint8_t *tags[BATCH];
	if (count == 0 || count > BATCH)
		return count == 0 ? 0 : -1;
	if (packets[0].key->cipher == CIPHER_AES_GCM) {
		for (size_t i = 0; i < count; i++)
			multibuffer_gcm_seal(packets[i].key, packets[i].bytes, packets[i].encrypted_len);
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		all[i] = (uint8_t)i;
		tags[i] = icv_of(&packets[i]);
	}
	if (cipher_all(manager, packets, all, count, IMB_DIR_ENCRYPT) != 0)
		return -1;
	return hash_all(manager, packets, tags, count);
}

/* First all tags, then the decryption of those packets that are authentic: forged ones cost no decryption. */
static int open_cbc(struct multibuffer_manager *manager, struct multibuffer_packet *packets, size_t count)
{
	uint8_t computed[BATCH][MAX_ICV_LEN];
	uint8_t *tags[BATCH];
	uint8_t authentic[BATCH];
	size_t authentic_count = 0;
	for (size_t i = 0; i < count; i++)
		tags[i] = computed[i];
	if (hash_all(manager, packets, tags, count) != 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		packets[i].authentic = equal_in_constant_time(tags[i], icv_of(&packets[i]), packets[i].key->icv_len);
		if (packets[i].authentic)
			authentic[authentic_count++] = (uint8_t)i;
	}
	if (authentic_count == 0)
		return 0;
	return cipher_all(manager, packets, authentic, authentic_count, IMB_DIR_DECRYPT);
}

/* 0 when every packet was judged, at most BATCH of them; `authentic` then tells the verdict of each. */
int multibuffer_open(struct multibuffer_manager *manager, struct multibuffer_packet *packets, size_t count)
{
	if (count == 0 || count > BATCH)
		return count == 0 ? 0 : -1;
	if (packets[0].key->cipher != CIPHER_AES_GCM)
		return open_cbc(manager, packets, count);
	for (size_t i = 0; i < count; i++) {
		struct multibuffer_packet *packet = &packets[i];
		packet->authentic = (uint32_t)multibuffer_gcm_open(
			packet->key, packet->bytes, packet->bytes + HEADER_LEN + 8, packet->encrypted_len);
	}
	return 0;
}
