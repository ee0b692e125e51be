// Types of QMP's block commands: disks, nodes, jobs, exports (QEMU's block-core.json and its neighbours), as far as they are served.
#include "control/qmp/schema.h"

namespace atl::control {
namespace {

using Kind = SchemaType::Kind;

constexpr SchemaType kTypes[] = {
    {"Abort", Kind::Object, ""},
    {"AbortWrapper", Kind::Object, "data:Abort"},
    {"BitmapSyncMode", Kind::Enum, "on-success never always"},
    {"BlkdebugEvent", Kind::Enum, "l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update "
     "l2_update_compressed l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio read_compressed write_aio "
     "write_compressed vmstate_load vmstate_save cow_read cow_write reftable_load reftable_grow reftable_update "
     "refblock_load refblock_update refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write "
     "refblock_alloc_write_blocks refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc "
     "cluster_alloc_bytes cluster_free flush_to_os flush_to_disk pwritev_rmw_head pwritev_rmw_after_head "
     "pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero pwritev_done empty_image_prepare "
     "l1_shrink_write_table l1_shrink_free_l2_clusters cor_write cluster_alloc_space none"},
    {"BlkdebugIOType", Kind::Enum, "read write write-zeroes discard flush block-status"},
    {"BlkdebugInjectErrorOptions", Kind::Object, "event:BlkdebugEvent state?:int iotype?:BlkdebugIOType errno?:int sector?:int once?:bool immediately?:bool"},
    {"BlkdebugSetStateOptions", Kind::Object, "event:BlkdebugEvent state?:int new_state:int"},
    {"BlockDeviceInfo", Kind::Object, "file:str node-name?:str ro:bool drv:str backing_file?:str backing_file_depth:int encrypted:bool "
     "detect_zeroes:BlockdevDetectZeroesOptions bps:int bps_rd:int bps_wr:int iops:int iops_rd:int iops_wr:int "
     "image:ImageInfo bps_max?:int bps_rd_max?:int bps_wr_max?:int iops_max?:int iops_rd_max?:int iops_wr_max?:int "
     "bps_max_length?:int bps_rd_max_length?:int bps_wr_max_length?:int iops_max_length?:int "
     "iops_rd_max_length?:int iops_wr_max_length?:int iops_size?:int group?:str cache:BlockdevCacheInfo "
     "write_threshold:int dirty-bitmaps?:[BlockDirtyInfo]"},
    {"BlockDeviceIoStatus", Kind::Enum, "ok failed nospace"},
    {"BlockDeviceStats", Kind::Object, "rd_bytes:int wr_bytes:int unmap_bytes:int rd_operations:int wr_operations:int flush_operations:int "
     "unmap_operations:int rd_total_time_ns:int wr_total_time_ns:int flush_total_time_ns:int "
     "unmap_total_time_ns:int wr_highest_offset:int rd_merged:int wr_merged:int unmap_merged:int idle_time_ns?:int "
     "failed_rd_operations:int failed_wr_operations:int failed_flush_operations:int failed_unmap_operations:int "
     "invalid_rd_operations:int invalid_wr_operations:int invalid_flush_operations:int invalid_unmap_operations:int "
     "account_invalid:bool account_failed:bool timed_stats:[BlockDeviceTimedStats] "
     "rd_latency_histogram?:BlockLatencyHistogramInfo wr_latency_histogram?:BlockLatencyHistogramInfo "
     "flush_latency_histogram?:BlockLatencyHistogramInfo"},
    {"BlockDeviceTimedStats", Kind::Object, "interval_length:int min_rd_latency_ns:int max_rd_latency_ns:int avg_rd_latency_ns:int min_wr_latency_ns:int "
     "max_wr_latency_ns:int avg_wr_latency_ns:int min_flush_latency_ns:int max_flush_latency_ns:int "
     "avg_flush_latency_ns:int avg_rd_queue_depth:number avg_wr_queue_depth:number"},
    {"BlockDirtyBitmap", Kind::Object, "node:str name:str"},
    {"BlockDirtyBitmapAdd", Kind::Object, "node:str name:str granularity?:int persistent?:bool disabled?:bool"},
    {"BlockDirtyBitmapAddWrapper", Kind::Object, "data:BlockDirtyBitmapAdd"},
    {"BlockDirtyBitmapMerge", Kind::Object, "node:str target:str bitmaps:[BlockDirtyBitmapOrStr]"},
    {"BlockDirtyBitmapMergeWrapper", Kind::Object, "data:BlockDirtyBitmapMerge"},
    {"BlockDirtyBitmapOrStr", Kind::Alternate, "str BlockDirtyBitmap"},
    {"BlockDirtyBitmapWrapper", Kind::Object, "data:BlockDirtyBitmap"},
    {"BlockDirtyInfo", Kind::Object, "name?:str count:int granularity:int recording:bool busy:bool persistent:bool"},
    {"BlockErrorAction", Kind::Enum, "ignore report stop"},
    {"BlockExportInfo", Kind::Object, "id:str type:BlockExportType node-name:str shutting-down:bool"},
    {"BlockExportOptions", Kind::Union, "type:BlockExportType id:str fixed-iothread?:bool iothread?:str node-name:str writable?:bool "
     "writethrough?:bool", "type",
     "nbd=BlockExportOptionsNbd"},
    {"BlockExportOptionsNbd", Kind::Object, "name?:str description?:str bitmaps?:[BlockDirtyBitmapOrStr] allocation-depth?:bool"},
    {"BlockExportRemoveMode", Kind::Enum, "safe hard"},
    {"BlockExportType", Kind::Enum, "nbd"},
    {"BlockInfo", Kind::Object, "device:str qdev?:str type:str removable:bool locked:bool inserted?:BlockDeviceInfo tray_open?:bool "
     "io-status?:BlockDeviceIoStatus"},
    {"BlockJobInfo", Kind::Object, "type:str device:str len:int offset:int busy:bool paused:bool speed:int io-status:BlockDeviceIoStatus "
     "ready:bool status:JobStatus auto-finalize:bool auto-dismiss:bool error?:str"},
    {"BlockLatencyHistogramInfo", Kind::Object, "boundaries:[int] bins:[int]"},
    {"BlockStats", Kind::Object, "device?:str qdev?:str node-name?:str stats:BlockDeviceStats parent?:BlockStats backing?:BlockStats"},
    {"BlockdevAioOptions", Kind::Enum, "threads native io_uring"},
    {"BlockdevBackup", Kind::Object, "job-id?:str device:str sync:MirrorSyncMode speed?:int bitmap?:str bitmap-mode?:BitmapSyncMode compress?:bool "
     "on-source-error?:BlockdevOnError on-target-error?:BlockdevOnError auto-finalize?:bool auto-dismiss?:bool "
     "target:str"},
    {"BlockdevBackupWrapper", Kind::Object, "data:BlockdevBackup"},
    {"BlockdevCacheInfo", Kind::Object, "writeback:bool direct:bool no-flush:bool"},
    {"BlockdevCacheOptions", Kind::Object, "direct?:bool no-flush?:bool"},
    {"BlockdevChangeReadOnlyMode", Kind::Enum, "retain read-only read-write"},
    {"BlockdevCreateOptions", Kind::Union, "driver:BlockdevDriver", "driver",
     "file=BlockdevCreateOptionsFile luks=BlockdevCreateOptionsLUKS nfs=BlockdevCreateOptionsNfs "
     "parallels=BlockdevCreateOptionsParallels qcow=BlockdevCreateOptionsQcow qcow2=BlockdevCreateOptionsQcow2 "
     "qed=BlockdevCreateOptionsQed ssh=BlockdevCreateOptionsSsh vdi=BlockdevCreateOptionsVdi "
     "vhdx=BlockdevCreateOptionsVhdx vmdk=BlockdevCreateOptionsVmdk vpc=BlockdevCreateOptionsVpc"},
    {"BlockdevCreateOptionsFile", Kind::Object, "filename:str size:int preallocation?:PreallocMode nocow?:bool"},
    {"BlockdevCreateOptionsLUKS", Kind::Object, "key-secret?:str cipher-alg?:QCryptoCipherAlgorithm cipher-mode?:QCryptoCipherMode "
     "ivgen-alg?:QCryptoIVGenAlgorithm ivgen-hash-alg?:QCryptoHashAlgorithm hash-alg?:QCryptoHashAlgorithm "
     "iter-time?:int file:BlockdevRef size:int preallocation?:PreallocMode"},
    {"BlockdevCreateOptionsNfs", Kind::Object, "location:BlockdevOptionsNfs size:int"},
    {"BlockdevCreateOptionsParallels", Kind::Object, "file:BlockdevRef size:int cluster-size?:int"},
    {"BlockdevCreateOptionsQcow", Kind::Object, "file:BlockdevRef size:int encrypt?:QCryptoBlockCreateOptions"},
    {"BlockdevCreateOptionsQcow2", Kind::Object, "file:BlockdevRef data-file?:BlockdevRef data-file-raw?:bool extended-l2?:bool size:int "
     "encrypt?:QCryptoBlockCreateOptions cluster-size?:int preallocation?:PreallocMode lazy-refcounts?:bool "
     "refcount-bits?:int compression-type?:Qcow2CompressionType"},
    {"BlockdevCreateOptionsQed", Kind::Object, "file:BlockdevRef size:int cluster-size?:int"},
    {"BlockdevCreateOptionsSsh", Kind::Object, "location:BlockdevOptionsSsh size:int"},
    {"BlockdevCreateOptionsVdi", Kind::Object, "file:BlockdevRef size:int preallocation?:PreallocMode"},
    {"BlockdevCreateOptionsVhdx", Kind::Object, "file:BlockdevRef size:int subformat?:BlockdevVhdxSubformat"},
    {"BlockdevCreateOptionsVmdk", Kind::Object, "file:BlockdevRef size:int extents?:[BlockdevRef] subformat?:BlockdevVmdkSubformat hwversion?:str "
     "toolsversion?:str"},
    {"BlockdevCreateOptionsVpc", Kind::Object, "file:BlockdevRef size:int subformat?:BlockdevVpcSubformat"},
    {"BlockdevDetectZeroesOptions", Kind::Enum, "off on unmap"},
    {"BlockdevDiscardOptions", Kind::Enum, "ignore unmap"},
    {"BlockdevDriver", Kind::Enum, "blkdebug blkverify bochs cloop copy-on-read dmg file ftp ftps host_cdrom host_device http https iscsi luks "
     "nbd nfs null-aio null-co parallels qcow qcow2 qed quorum raw ssh tftp throttle vdi vhdx vmdk vpc vvfat"},
    {"BlockdevOnError", Kind::Enum, "report ignore enospc stop auto"},
    {"BlockdevOptions", Kind::Union, "driver:BlockdevDriver node-name?:str discard?:BlockdevDiscardOptions cache?:BlockdevCacheOptions "
     "read-only?:bool auto-read-only?:bool force-share?:bool detect-zeroes?:BlockdevDetectZeroesOptions", "driver",
     "blkdebug=BlockdevOptionsBlkdebug blkverify=BlockdevOptionsBlkverify bochs=BlockdevOptionsGenericFormat "
     "cloop=BlockdevOptionsGenericFormat copy-on-read=BlockdevOptionsCor dmg=BlockdevOptionsGenericFormat "
     "file=BlockdevOptionsFile ftp=BlockdevOptionsCurlFtp ftps=BlockdevOptionsCurlFtps "
     "host_cdrom=BlockdevOptionsFile host_device=BlockdevOptionsFile http=BlockdevOptionsCurlHttp "
     "https=BlockdevOptionsCurlHttps iscsi=BlockdevOptionsIscsi luks=BlockdevOptionsLUKS nbd=BlockdevOptionsNbd "
     "nfs=BlockdevOptionsNfs null-aio=BlockdevOptionsNull null-co=BlockdevOptionsNull "
     "parallels=BlockdevOptionsGenericFormat qcow2=BlockdevOptionsQcow2 qcow=BlockdevOptionsQcow "
     "qed=BlockdevOptionsGenericCOWFormat quorum=BlockdevOptionsQuorum raw=BlockdevOptionsRaw "
     "ssh=BlockdevOptionsSsh tftp=BlockdevOptionsCurlFtp throttle=BlockdevOptionsThrottle vdi=BlockdevOptionsGenericFormat "
     "vhdx=BlockdevOptionsGenericFormat vmdk=BlockdevOptionsGenericCOWFormat vpc=BlockdevOptionsGenericFormat "
     "vvfat=BlockdevOptionsVVFAT"},
    {"BlockdevOptionsBlkdebug", Kind::Object, "image:BlockdevRef config?:str inject-error?:[BlkdebugInjectErrorOptions] set-state?:[BlkdebugSetStateOptions]"},
    {"BlockdevOptionsBlkverify", Kind::Object, "test:BlockdevRef raw:BlockdevRef"},
    {"BlockdevOptionsCor", Kind::Object, "file:BlockdevRef bottom?:str"},
    {"BlockdevOptionsCurlFtp", Kind::Object, "url:str readahead?:int timeout?:int username?:str password-secret?:str proxy-username?:str "
     "proxy-password-secret?:str"},
    {"BlockdevOptionsCurlFtps", Kind::Object, "url:str readahead?:int timeout?:int username?:str password-secret?:str proxy-username?:str "
     "proxy-password-secret?:str sslverify?:bool"},
    {"BlockdevOptionsCurlHttp", Kind::Object, "url:str readahead?:int timeout?:int username?:str password-secret?:str proxy-username?:str "
     "proxy-password-secret?:str cookie?:str cookie-secret?:str"},
    {"BlockdevOptionsCurlHttps", Kind::Object, "url:str readahead?:int timeout?:int username?:str password-secret?:str proxy-username?:str "
     "proxy-password-secret?:str cookie?:str sslverify?:bool cookie-secret?:str"},
    {"BlockdevOptionsFile", Kind::Object, "filename:str locking?:OnOffAuto aio?:BlockdevAioOptions"},
    {"BlockdevOptionsGenericCOWFormat", Kind::Object, "file:BlockdevRef backing?:BlockdevRefOrNull"},
    {"BlockdevOptionsGenericFormat", Kind::Object, "file:BlockdevRef"},
    {"BlockdevOptionsIscsi", Kind::Object, "transport:IscsiTransport portal:str target:str lun?:int user?:str password-secret?:str initiator-name?:str "
     "header-digest?:IscsiHeaderDigest timeout?:int"},
    {"BlockdevOptionsLUKS", Kind::Object, "file:BlockdevRef key-secret?:str"},
    {"BlockdevOptionsNbd", Kind::Object, "server:SocketAddress export?:str tls-creds?:str tls-hostname?:str x-dirty-bitmap?:str reconnect-delay?:int "
     "open-timeout?:int"},
    {"BlockdevOptionsNfs", Kind::Object, "server:NFSServer path:str user?:int group?:int"},
    {"BlockdevOptionsNull", Kind::Object, "size?:int latency-ns?:int read-zeroes?:bool"},
    {"BlockdevOptionsQcow", Kind::Object, "file:BlockdevRef backing?:BlockdevRefOrNull encrypt?:BlockdevQcowEncryption"},
    {"BlockdevOptionsQcow2", Kind::Object, "file:BlockdevRef backing?:BlockdevRefOrNull lazy-refcounts?:bool pass-discard-request?:bool "
     "pass-discard-snapshot?:bool pass-discard-other?:bool overlap-check?:Qcow2OverlapChecks cache-size?:int "
     "l2-cache-size?:int l2-cache-entry-size?:int refcount-cache-size?:int cache-clean-interval?:int "
     "encrypt?:BlockdevQcow2Encryption data-file?:BlockdevRef"},
    {"BlockdevOptionsQuorum", Kind::Object, "blkverify?:bool children:[BlockdevRef] vote-threshold:int rewrite-corrupted?:bool "
     "read-pattern?:QuorumReadPattern"},
    {"BlockdevOptionsRaw", Kind::Object, "file:BlockdevRef offset?:int size?:int"},
    {"BlockdevOptionsSsh", Kind::Object, "server:InetSocketAddress path:str user?:str"},
    {"BlockdevOptionsThrottle", Kind::Object, "throttle-group:str file:BlockdevRef"},
    {"BlockdevOptionsVVFAT", Kind::Object, "dir:str fat-type?:int floppy?:bool label?:str rw?:bool"},
    {"BlockdevQcow2Encryption", Kind::Union, "format:BlockdevQcow2EncryptionFormat", "format",
     "aes=QCryptoBlockOptionsQCow luks=QCryptoBlockOptionsLUKS"},
    {"BlockdevQcow2EncryptionFormat", Kind::Enum, "aes luks"},
    {"BlockdevQcowEncryption", Kind::Union, "format:BlockdevQcowEncryptionFormat", "format",
     "aes=QCryptoBlockOptionsQCow"},
    {"BlockdevQcowEncryptionFormat", Kind::Enum, "aes"},
    {"BlockdevRef", Kind::Alternate, "BlockdevOptions str"},
    {"BlockdevRefOrNull", Kind::Alternate, "BlockdevOptions str null"},
    {"BlockdevSnapshot", Kind::Object, "node:str overlay:str"},
    {"BlockdevSnapshotInternal", Kind::Object, "device:str name:str"},
    {"BlockdevSnapshotInternalWrapper", Kind::Object, "data:BlockdevSnapshotInternal"},
    {"BlockdevSnapshotSync", Kind::Object, "device?:str node-name?:str snapshot-file:str snapshot-node-name?:str format?:str mode?:NewImageMode"},
    {"BlockdevSnapshotSyncWrapper", Kind::Object, "data:BlockdevSnapshotSync"},
    {"BlockdevSnapshotWrapper", Kind::Object, "data:BlockdevSnapshot"},
    {"BlockdevVhdxSubformat", Kind::Enum, "dynamic fixed"},
    {"BlockdevVmdkSubformat", Kind::Enum, "monolithicSparse monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat streamOptimized"},
    {"BlockdevVpcSubformat", Kind::Enum, "dynamic fixed"},
    {"DataFormat", Kind::Enum, "utf8 base64"},
    {"DriveBackup", Kind::Object, "job-id?:str device:str sync:MirrorSyncMode speed?:int bitmap?:str bitmap-mode?:BitmapSyncMode compress?:bool "
     "on-source-error?:BlockdevOnError on-target-error?:BlockdevOnError auto-finalize?:bool auto-dismiss?:bool "
     "target:str format?:str mode?:NewImageMode"},
    {"DriveBackupWrapper", Kind::Object, "data:DriveBackup"},
    {"ImageFormat", Kind::Enum, "ppm png"},
    {"ImageInfo", Kind::Object, "filename:str format:str dirty-flag?:bool actual-size?:int virtual-size:int cluster-size?:int encrypted?:bool "
     "compressed?:bool backing-filename?:str full-backing-filename?:str backing-filename-format?:str "
     "backing-image?:ImageInfo format-specific?:ImageInfoSpecific"},
    {"ImageInfoSpecific", Kind::Union, "type:ImageInfoSpecificKind", "type",
     "qcow2=ImageInfoSpecificQCow2Wrapper vmdk=ImageInfoSpecificVmdkWrapper luks=ImageInfoSpecificLUKSWrapper "
     "rbd=ImageInfoSpecificRbdWrapper"},
    {"ImageInfoSpecificKind", Kind::Enum, "qcow2 vmdk luks rbd"},
    {"ImageInfoSpecificLUKSWrapper", Kind::Object, "data:QCryptoBlockInfoLUKS"},
    {"ImageInfoSpecificQCow2", Kind::Object, "compat:str data-file?:str data-file-raw?:bool extended-l2?:bool lazy-refcounts?:bool corrupt?:bool "
     "refcount-bits:int encrypt?:ImageInfoSpecificQCow2Encryption bitmaps?:[Qcow2BitmapInfo] "
     "compression-type:Qcow2CompressionType"},
    {"ImageInfoSpecificQCow2Encryption", Kind::Union, "format:BlockdevQcow2EncryptionFormat", "format",
     "luks=QCryptoBlockInfoLUKS"},
    {"ImageInfoSpecificQCow2Wrapper", Kind::Object, "data:ImageInfoSpecificQCow2"},
    {"ImageInfoSpecificRbd", Kind::Object, ""},
    {"ImageInfoSpecificRbdWrapper", Kind::Object, "data:ImageInfoSpecificRbd"},
    {"ImageInfoSpecificVmdk", Kind::Object, "create-type:str cid:int parent-cid:int extents:[ImageInfo]"},
    {"ImageInfoSpecificVmdkWrapper", Kind::Object, "data:ImageInfoSpecificVmdk"},
    {"IoOperationType", Kind::Enum, "read write"},
    {"IscsiHeaderDigest", Kind::Enum, "crc32c none crc32c-none none-crc32c"},
    {"IscsiTransport", Kind::Enum, "tcp iser"},
    {"JobInfo", Kind::Object, "id:str type:JobType status:JobStatus current-progress:int total-progress:int error?:str"},
    {"JobStatus", Kind::Enum, "undefined created running paused ready standby waiting pending aborting concluded null"},
    {"JobType", Kind::Enum, "commit stream mirror backup create amend snapshot-load snapshot-save snapshot-delete"},
    {"MirrorCopyMode", Kind::Enum, "background write-blocking"},
    {"MirrorSyncMode", Kind::Enum, "top full none incremental bitmap"},
    {"NFSServer", Kind::Object, "type:NFSTransport host:str"},
    {"NFSTransport", Kind::Enum, "inet"},
    {"NewImageMode", Kind::Enum, "existing absolute-paths"},
    {"OnOffAuto", Kind::Enum, "auto on off"},
    {"PreallocMode", Kind::Enum, "off metadata falloc full"},
    {"QCryptoBlockCreateOptions", Kind::Union, "format:QCryptoBlockFormat", "format",
     "qcow=QCryptoBlockOptionsQCow luks=QCryptoBlockCreateOptionsLUKS"},
    {"QCryptoBlockCreateOptionsLUKS", Kind::Object, "key-secret?:str cipher-alg?:QCryptoCipherAlgorithm cipher-mode?:QCryptoCipherMode "
     "ivgen-alg?:QCryptoIVGenAlgorithm ivgen-hash-alg?:QCryptoHashAlgorithm hash-alg?:QCryptoHashAlgorithm "
     "iter-time?:int"},
    {"QCryptoBlockFormat", Kind::Enum, "qcow luks"},
    {"QCryptoBlockInfoLUKS", Kind::Object, "cipher-alg:QCryptoCipherAlgorithm cipher-mode:QCryptoCipherMode ivgen-alg:QCryptoIVGenAlgorithm "
     "ivgen-hash-alg?:QCryptoHashAlgorithm hash-alg:QCryptoHashAlgorithm payload-offset:int master-key-iters:int "
     "uuid:str slots:[QCryptoBlockInfoLUKSSlot]"},
    {"QCryptoBlockInfoLUKSSlot", Kind::Object, "active:bool iters?:int stripes?:int key-offset:int"},
    {"QCryptoBlockOptionsLUKS", Kind::Object, "key-secret?:str"},
    {"QCryptoBlockOptionsQCow", Kind::Object, "key-secret?:str"},
    {"QCryptoCipherAlgorithm", Kind::Enum, "aes-128 aes-192 aes-256 des 3des cast5-128 serpent-128 serpent-192 serpent-256 twofish-128 twofish-192 "
     "twofish-256"},
    {"QCryptoCipherMode", Kind::Enum, "ecb cbc xts ctr"},
    {"QCryptoHashAlgorithm", Kind::Enum, "md5 sha1 sha224 sha256 sha384 sha512 ripemd160"},
    {"QCryptoIVGenAlgorithm", Kind::Enum, "plain plain64 essiv"},
    {"QCryptoSecretFormat", Kind::Enum, "raw base64"},
    {"QCryptoTLSCredsEndpoint", Kind::Enum, "client server"},
    {"Qcow2BitmapInfo", Kind::Object, "name:str granularity:int flags:[Qcow2BitmapInfoFlags]"},
    {"Qcow2BitmapInfoFlags", Kind::Enum, "in-use auto"},
    {"Qcow2CompressionType", Kind::Enum, "zlib zstd"},
    {"Qcow2OverlapCheckFlags", Kind::Object, "template?:Qcow2OverlapCheckMode main-header?:bool active-l1?:bool active-l2?:bool refcount-table?:bool "
     "refcount-block?:bool snapshot-table?:bool inactive-l1?:bool inactive-l2?:bool bitmap-directory?:bool"},
    {"Qcow2OverlapCheckMode", Kind::Enum, "none constant cached all"},
    {"Qcow2OverlapChecks", Kind::Alternate, "Qcow2OverlapCheckFlags Qcow2OverlapCheckMode"},
    {"QuorumReadPattern", Kind::Enum, "quorum fifo"},
    {"SnapshotInfo", Kind::Object, "id:str name:str vm-state-size:int date-sec:int date-nsec:int vm-clock-sec:int vm-clock-nsec:int icount?:int"},
    {"ThrottleGroupProperties", Kind::Object, "limits?:ThrottleLimits"},
    {"ThrottleLimits", Kind::Object, "iops-total?:int iops-total-max?:int iops-total-max-length?:int iops-read?:int iops-read-max?:int "
     "iops-read-max-length?:int iops-write?:int iops-write-max?:int iops-write-max-length?:int bps-total?:int "
     "bps-total-max?:int bps-total-max-length?:int bps-read?:int bps-read-max?:int bps-read-max-length?:int "
     "bps-write?:int bps-write-max?:int bps-write-max-length?:int iops-size?:int"},
    {"TransactionAction", Kind::Union, "type:TransactionActionKind", "type",
     "abort=AbortWrapper block-dirty-bitmap-add=BlockDirtyBitmapAddWrapper "
     "block-dirty-bitmap-remove=BlockDirtyBitmapWrapper block-dirty-bitmap-clear=BlockDirtyBitmapWrapper "
     "block-dirty-bitmap-enable=BlockDirtyBitmapWrapper block-dirty-bitmap-disable=BlockDirtyBitmapWrapper "
     "block-dirty-bitmap-merge=BlockDirtyBitmapMergeWrapper blockdev-backup=BlockdevBackupWrapper "
     "blockdev-snapshot=BlockdevSnapshotWrapper blockdev-snapshot-internal-sync=BlockdevSnapshotInternalWrapper "
     "blockdev-snapshot-sync=BlockdevSnapshotSyncWrapper drive-backup=DriveBackupWrapper"},
    {"TransactionActionKind", Kind::Enum, "abort blockdev-snapshot-sync blockdev-snapshot blockdev-snapshot-internal-sync blockdev-backup drive-backup "
     "block-dirty-bitmap-add block-dirty-bitmap-remove block-dirty-bitmap-clear block-dirty-bitmap-enable "
     "block-dirty-bitmap-disable block-dirty-bitmap-merge"},
    {"TransactionProperties", Kind::Object, ""},
};

}  // namespace

std::span<const SchemaType> block_schema_types() { return kTypes; }

}  // namespace atl::control
