// Ciphers against published vectors; key slots made, opened, changed.
#include <gtest/gtest.h>

#include "base/endian.h"
#include "block/crypto/af_split.h"
#include "block/crypto/cipher.h"
#include "block/crypto/luks.h"
#include "block/test_support.h"

namespace atl::block::crypto {
namespace {

KeyBytes from_hex(std::string_view digits) {
  KeyBytes bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes.push_back(static_cast<u8>(std::stoul(std::string(digits.substr(i, 2)), nullptr, 16)));
  return bytes;
}

std::string hex(std::span<const u8> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (u8 b : bytes) {
    text += kDigits[b >> 4];
    text += kDigits[b & 15];
  }
  return text;
}

TEST(DeriveKey, MatchesRfc6070) {
  const nettle_hash* sha1 = *find_hash("sha1");
  const u8 password[] = {'p', 'a', 's', 's', 'w', 'o', 'r', 'd'}, salt[] = {'s', 'a', 'l', 't'};
  EXPECT_EQ(hex(derive_key(*sha1, password, salt, 4096, 20)), "4b007901b765489abead49d926f721d065a429c1");
}

TEST(SectorCipher, XtsMatchesIeee1619Vector4) {
  // Two AES-128 keys, data unit 0, plain text 00 01 02 ... ff 00 ...: the first blocks.
  KeyBytes key = from_hex("2718281828459045235360287471352631415926535897932384626433832795");
  auto cipher = SectorCipher::create({"aes-128", Chaining::Xts, IvKind::Plain64, ""}, key);
  ASSERT_TRUE(cipher);
  std::vector<u8> sector(512);
  for (size_t i = 0; i < sector.size(); ++i) sector[i] = static_cast<u8>(i);
  std::vector<u8> out(512);
  cipher->encrypt(0, sector, out.data());
  EXPECT_EQ(hex(std::span(out).first(32)), "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c");
  cipher->decrypt(0, out, out.data());
  EXPECT_EQ(out, sector);
}

TEST(SectorCipher, EveryCombinationGivesBackWhatItTook) {
  for (const char* name : {"aes-128", "aes-192", "aes-256", "serpent-128", "serpent-256", "twofish-128", "twofish-256"})
    for (Chaining chaining : {Chaining::Ecb, Chaining::Cbc, Chaining::Xts})
      for (IvKind iv : {IvKind::Plain, IvKind::Plain64, IvKind::Essiv}) {
        CipherSpec spec{name, chaining, iv, iv == IvKind::Essiv ? "sha256" : ""};
        KeyBytes key(*key_bytes_of(spec), 7);
        key[0] = 1;
        auto cipher = SectorCipher::create(spec, key);
        ASSERT_TRUE(cipher) << name;
        std::vector<u8> plain(1536, 0x5a), out(1536), back(1536);
        cipher->encrypt(77, plain, out.data());
        EXPECT_NE(out, plain);
        cipher->decrypt(77, out, back.data());
        EXPECT_EQ(back, plain) << name;
      }
}

TEST(SectorCipher, PlainCountsIn32Bits) {
  KeyBytes key(32, 9);
  key[0] = 1;
  auto plain = SectorCipher::create({"aes-256", Chaining::Cbc, IvKind::Plain, ""}, key);
  auto plain64 = SectorCipher::create({"aes-256", Chaining::Cbc, IvKind::Plain64, ""}, key);
  std::vector<u8> zero(512), a(512), b(512), c(512);
  plain->encrypt((u64{1} << 32) + 5, zero, a.data());
  plain->encrypt(5, zero, b.data());
  plain64->encrypt((u64{1} << 32) + 5, zero, c.data());
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST(AfSplit, MergeNeedsEveryByte) {
  const nettle_hash* hash = *find_hash("sha256");
  KeyBytes key(64, 0x42);
  auto material = af_split(*hash, key, 100);
  ASSERT_TRUE(material);
  EXPECT_EQ(af_merge(*hash, *material, 64), key);
  (*material)[3] ^= 1;
  EXPECT_NE(af_merge(*hash, *material, 64), key);
}

class Luks : public testing::Test {
 protected:
  std::unique_ptr<Loop> loop = make_loop();
  Graph graph{*loop};
  MemoryNode disk;
  LuksCreateOptions options;

  static std::unique_ptr<Loop> make_loop() { return MUST(Loop::create(8)); }  // no test can do without
  void SetUp() override {
    options.iteration_ms = 1;
    options.password = "open";
    graph.add_secret("old", "open");
    graph.add_secret("new", "sesame");
    graph.add_secret("wrong", "closed");
  }
  LuksVolume create() {
    auto volume = finish(*loop, create_luks(disk, 0, options));
    EXPECT_TRUE(volume) << volume.error().text();
    return std::move(*volume);
  }
  Result<KeyBytes> unlock(const LuksHeader& header, std::string password) {
    return finish(*loop, unlock_luks(disk, 0, header, std::move(password)));
  }
  Status amend(LuksHeader& header, Json change, bool force = false) {
    return finish(*loop, amend_luks(graph, disk, 0, header, "open", std::move(change), "", force));
  }
};

TEST_F(Luks, OpensWithItsPasswordOnly) {
  LuksVolume volume = create();
  auto header = finish(*loop, read_luks_header(disk, 0));
  ASSERT_TRUE(header) << header.error().text();
  EXPECT_EQ(header->cipher.cipher, "aes-256");
  EXPECT_EQ(*unlock(*header, "open"), volume.key);
  auto wrong = unlock(*header, "closed");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().kind(), ErrorKind::Permission);
}

TEST_F(Luks, SlotsAreAddedAndErased) {
  LuksVolume volume = create();
  LuksHeader& header = volume.header;
  ASSERT_TRUE(amend(header, {{"state", "active"}, {"new-secret", "new"}, {"keyslot", "3"}, {"iter-time", "1"}}));
  EXPECT_EQ(*unlock(header, "sesame"), volume.key);
  ASSERT_TRUE(amend(header, {{"state", "inactive"}, {"old-secret", "old"}}));
  EXPECT_FALSE(unlock(header, "open"));
  auto again = finish(*loop, read_luks_header(disk, 0));
  EXPECT_EQ(*unlock(*again, "sesame"), volume.key);
}

TEST_F(Luks, TheLastSlotGoesOnlyByForce) {
  LuksVolume volume = create();
  EXPECT_FALSE(amend(volume.header, {{"state", "inactive"}, {"keyslot", "0"}}));
  EXPECT_FALSE(amend(volume.header, {{"state", "inactive"}, {"old-secret", "old"}}));
  EXPECT_TRUE(unlock(volume.header, "open"));
  EXPECT_TRUE(amend(volume.header, {{"state", "inactive"}, {"keyslot", "0"}}, true));
  EXPECT_FALSE(unlock(volume.header, "open"));
}

TEST_F(Luks, ChangesThatMakeNoSenseAreRefused) {
  LuksVolume volume = create();
  const Json changes[] = {
      {{"state", "asleep"}},
      {{"state", "active"}},
      {{"state", "active"}, {"new-secret", "new"}, {"keyslot", "0"}},
      {{"state", "active"}, {"new-secret", "new"}, {"keyslot", "8"}},
      {{"state", "active"}, {"new-secret", "nobody"}},
      {{"state", "active"}, {"new-secret", "new"}, {"old-secret", "wrong"}},
      {{"state", "inactive"}, {"new-secret", "new"}},
      {{"state", "inactive"}, {"old-secret", "wrong"}},
      {{"state", "inactive"}},
  };
  for (const Json& change : changes) EXPECT_FALSE(amend(volume.header, change)) << change.dump();
  EXPECT_TRUE(unlock(volume.header, "open"));
}

TEST_F(Luks, HostileHeadersAreRefusedByField) {
  create();
  const struct {
    u64 at;
    u32 value;
    const char* names;
  } cases[] = {
      {108, 0, "key-bytes"},       {108, 65, "key-bytes"},           {164, ~0u, "mk-digest-iter"},
      {164, 0, "mk-digest-iter"},  {208 + 4, ~0u, "key slot 0"},     {208 + 40, 0, "key slot 0"},
      {208 + 44, 1, "key slot 0"}, {208 + 48 + 40, 8, "key slot 1"}, {104, 4, "key slot 0"},
  };
  const std::string good = disk.bytes;
  for (auto& c : cases) {
    disk.bytes = good;
    store_be(&disk.bytes[c.at], c.value);
    auto header = finish(*loop, read_luks_header(disk, 0));
    ASSERT_FALSE(header) << c.at;
    EXPECT_NE(header.error().text().find(c.names), std::string::npos) << header.error().text();
  }
  disk.bytes = good;
  disk.bytes[7] = 2;
  EXPECT_EQ(finish(*loop, read_luks_header(disk, 0)).error().kind(), ErrorKind::Unsupported);
  disk.bytes.resize(300);
  EXPECT_FALSE(finish(*loop, read_luks_header(disk, 0)));
}

}  // namespace
}  // namespace atl::block::crypto
