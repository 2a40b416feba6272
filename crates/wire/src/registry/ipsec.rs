//! IPsec DOI numbers (RFC 2407).

registry! {
    /// Identification type.
    IdType(u8) {
        IPV4_ADDR = 1, "ID_IPV4_ADDR";
        FQDN = 2, "ID_FQDN";
        USER_FQDN = 3, "ID_USER_FQDN";
        IPV4_ADDR_SUBNET = 4, "ID_IPV4_ADDR_SUBNET";
        IPV6_ADDR = 5, "ID_IPV6_ADDR";
        IPV6_ADDR_SUBNET = 6, "ID_IPV6_ADDR_SUBNET";
        IPV4_ADDR_RANGE = 7, "ID_IPV4_ADDR_RANGE";
        IPV6_ADDR_RANGE = 8, "ID_IPV6_ADDR_RANGE";
        DER_ASN1_DN = 9, "ID_DER_ASN1_DN";
        DER_ASN1_GN = 10, "ID_DER_ASN1_GN";
        KEY_ID = 11, "ID_KEY_ID";
        LIST = 12, "ID_LIST";
        OID = 13, "ID_OID";
    }
}

registry! {
    /// ESP transform identifier.
    EspTransform(u8) {
        DES_IV64 = 1, "ESP_DES_IV64";
        DES = 2, "ESP_DES";
        TRIPLE_DES = 3, "ESP_3DES";
        RC5 = 4, "ESP_RC5";
        IDEA = 5, "ESP_IDEA";
        CAST = 6, "ESP_CAST";
        BLOWFISH = 7, "ESP_BLOWFISH";
        TRIPLE_IDEA = 8, "ESP_3IDEA";
        DES_IV32 = 9, "ESP_DES_IV32";
        RC4 = 10, "ESP_RC4";
        NULL = 11, "ESP_NULL";
        AES_CBC = 12, "ESP_AES-CBC";
        AES_CTR = 13, "ESP_AES-CTR";
        AES_CCM_8 = 14, "ESP_AES-CCM_8";
        AES_CCM_12 = 15, "ESP_AES-CCM_12";
        AES_CCM_16 = 16, "ESP_AES-CCM_16";
        AES_GCM_8 = 18, "ESP_AES-GCM_8";
        AES_GCM_12 = 19, "ESP_AES-GCM_12";
        AES_GCM_16 = 20, "ESP_AES-GCM_16";
        SEED_CBC = 21, "ESP_SEED_CBC";
        CAMELLIA = 22, "ESP_CAMELLIA";
        NULL_AUTH_AES_GMAC = 23, "ESP_NULL_AUTH_AES-GMAC";
    }
}

registry! {
    /// AH transform identifier.
    AhTransform(u8) {
        MD5 = 2, "AH_MD5";
        SHA = 3, "AH_SHA";
        DES = 4, "AH_DES";
        SHA2_256 = 5, "AH_SHA2-256";
        SHA2_384 = 6, "AH_SHA2-384";
        SHA2_512 = 7, "AH_SHA2-512";
        RIPEMD = 8, "AH_RIPEMD";
        AES_XCBC_MAC = 9, "AH_AES-XCBC-MAC";
        RSA = 10, "AH_RSA";
        AES_128_GMAC = 11, "AH_AES-128-GMAC";
        AES_192_GMAC = 12, "AH_AES-192-GMAC";
        AES_256_GMAC = 13, "AH_AES-256-GMAC";
    }
}

registry! {
    /// IPsec SA attribute class.
    IpsecAttribute(u16) {
        LIFE_TYPE = 1, "SA life type";
        LIFE_DURATION = 2, "SA life duration";
        GROUP_DESCRIPTION = 3, "group description";
        ENCAPSULATION_MODE = 4, "encapsulation mode";
        AUTHENTICATION_ALGORITHM = 5, "authentication algorithm";
        KEY_LENGTH = 6, "key length";
        KEY_ROUNDS = 7, "key rounds";
        COMPRESS_DICTIONARY_SIZE = 8, "compress dictionary size";
        COMPRESS_PRIVATE_ALGORITHM = 9, "compress private algorithm";
        ECN_TUNNEL = 10, "ECN tunnel";
        EXTENDED_SEQUENCE_NUMBER = 11, "extended (64-bit) sequence number";
        AUTHENTICATION_KEY_LENGTH = 12, "authentication key length";
        SIGNATURE_ENCODING_ALGORITHM = 13, "signature encoding algorithm";
        ADDRESS_PRESERVATION = 14, "address preservation";
        SA_DIRECTION = 15, "SA direction";
    }
}

registry! {
    /// Encapsulation mode.
    EncapsulationMode(u16) {
        TUNNEL = 1, "tunnel";
        TRANSPORT = 2, "transport";
        UDP_TUNNEL = 3, "UDP-encapsulated tunnel";
        UDP_TRANSPORT = 4, "UDP-encapsulated transport";
    }
}

registry! {
    /// Authentication algorithm of an IPsec SA.
    AuthenticationAlgorithm(u16) {
        HMAC_MD5 = 1, "HMAC-MD5";
        HMAC_SHA1 = 2, "HMAC-SHA";
        DES_MAC = 3, "DES-MAC";
        KPDK = 4, "KPDK";
        HMAC_SHA2_256 = 5, "HMAC-SHA2-256";
        HMAC_SHA2_384 = 6, "HMAC-SHA2-384";
        HMAC_SHA2_512 = 7, "HMAC-SHA2-512";
        HMAC_RIPEMD = 8, "HMAC-RIPEMD";
        AES_XCBC_MAC = 9, "AES-XCBC-MAC";
        SIG_RSA = 10, "SIG-RSA";
        AES_128_GMAC = 11, "AES-128-GMAC";
        AES_192_GMAC = 12, "AES-192-GMAC";
        AES_256_GMAC = 13, "AES-256-GMAC";
    }
}

registry! {
    /// Which addresses the outer header takes over from the inner one (RFC 6407 section 5.5.1.1.1).
    AddressPreservation(u16) {
        NONE = 1, "none";
        SOURCE_ONLY = 2, "source only";
        DESTINATION_ONLY = 3, "destination only";
        SOURCE_AND_DESTINATION = 4, "source and destination";
    }
}

registry! {
    /// Directions in which an SA is installed (RFC 6407 section 5.5.1.1.2).
    SaDirection(u16) {
        SENDER_ONLY = 1, "sender only";
        RECEIVER_ONLY = 2, "receiver only";
        SYMMETRIC = 3, "symmetric";
    }
}
