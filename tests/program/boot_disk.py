"""Disks that boot, made without root and without loop devices: GRUB for BIOS and UEFI by its own mkimage."""

import os
import struct
import subprocess
import unittest

SECTOR = 512
BIOS_MODULES = ["biosdisk", "part_msdos", "fat", "normal", "echo", "sleep", "linux16", "linux", "test", "minicmd"]
UEFI_MODULES = ["part_msdos", "fat", "normal", "echo", "sleep", "test", "minicmd"]


def grub_folder(platform):
    folder = f"/usr/lib/grub/{platform}"
    if not os.path.isdir(folder):
        raise unittest.SkipTest(f"no {folder}: grub-pc-bin and grub-efi-amd64-bin have it")
    return folder


def grub_image(folder, platform, modules, config):
    """A GRUB program with `config` inside."""
    with open(f"{folder}/load.cfg", "w") as file:
        file.write(config)
    out = f"{folder}/{platform}.img"
    subprocess.run(["grub-mkimage", "-O", platform, "-p", "/boot/grub", "-c", f"{folder}/load.cfg", "-o", out, *modules], check=True)
    return out


def bios_disk(folder, config, files=()):
    """A raw disk whose master boot record starts GRUB from the sectors behind it; `files` are copied to a FAT partition."""
    grub = grub_folder("i386-pc")
    with open(grub_image(folder, "i386-pc", BIOS_MODULES, config), "rb") as file:
        core = bytearray(file.read())
    with open(f"{grub}/boot.img", "rb") as file:
        boot = bytearray(file.read(SECTOR))
    sectors = (len(core) + SECTOR - 1) // SECTOR
    # The core image's first sector loads the rest: a list of blocks that ends at its sector's end. GRUB's boot record format.
    struct.pack_into("<QHH", core, 0x1f4, 2, sectors - 1, 0x820)
    struct.pack_into("<Q", boot, 0x5c, 1)
    boot[0x64] = 0xff  # the disk it was started from
    boot[510:512] = b"\x55\xaa"
    path = f"{folder}/bios.raw"
    with open(path, "wb") as disk:
        disk.write(boot)
        disk.write(core)
        disk.truncate((1 << 20) + (15 << 20))
    if files:
        add_partition(path, files)
    return path


def add_partition(path, files):
    """One FAT partition from 1 MiB to the end."""
    start, sectors = 2048, os.path.getsize(path) // SECTOR - 2048
    with open(path, "r+b") as disk:
        disk.seek(0x1be)
        disk.write(struct.pack("<BBBBBBBBII", 0x80, 0, 1, 0, 0x0e, 0xfe, 0xff, 0xff, start, sectors))
    partition = f"{path}@@{start * SECTOR}"
    subprocess.run(["mformat", "-i", partition, "-T", str(sectors), "-h", "16", "-s", "63", "::"], check=True)
    for file in files:
        subprocess.run(["mcopy", "-i", partition, file, "::" + os.path.basename(file)], check=True)


def uefi_cd(folder, config, files):
    """A CD that UEFI starts GRUB from, with `files` at its top; GRUB's root is the CD."""
    grub_folder("x86_64-efi")
    start = "search --file --set=root /efi.img\n"
    image = grub_image(folder, "x86_64-efi", [*UEFI_MODULES, "iso9660", "search", "search_fs_file", "linux", "efi_gop", "boot"], start + config)
    tree = f"{folder}/cd"
    os.makedirs(tree)
    for file in files:
        os.symlink(file, f"{tree}/{os.path.basename(file)}")
    boot = f"{tree}/efi.img"
    with open(boot, "wb") as disk:
        disk.truncate(4 << 20)
    subprocess.run(["mformat", "-i", boot, "::"], check=True, stdout=subprocess.DEVNULL)
    for name in ("::EFI", "::EFI/BOOT"):
        subprocess.run(["mmd", "-i", boot, name], check=True)
    subprocess.run(["mcopy", "-i", boot, image, "::EFI/BOOT/BOOTX64.EFI"], check=True)
    path = f"{folder}/uefi.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-f", "-o", path, "-R", "-e", "efi.img", "-no-emul-boot", tree], check=True,
                   stderr=subprocess.DEVNULL)
    return path


def fat_disk(path, files):
    """A raw FAT file system; `files` maps paths in it to files."""
    with open(path, "wb") as disk:
        disk.truncate(64 << 20)
    subprocess.run(["mformat", "-i", path, "-F", "-v", "ATOLL", "::"], check=True, stdout=subprocess.DEVNULL)
    folders = set()
    for name in files:
        parts = name.split("/")[:-1]
        folders |= {"/".join(parts[:i + 1]) for i in range(len(parts))}
    for folder in sorted(folders):
        subprocess.run(["mmd", "-i", path, "::" + folder], check=True)
    for name, file in files.items():
        subprocess.run(["mcopy", "-i", path, file, "::" + name], check=True)
    return path


def uefi_disk(folder, config):
    """GRUB where UEFI looks on removable media."""
    grub_folder("x86_64-efi")
    image = grub_image(folder, "x86_64-efi", UEFI_MODULES, config)
    return fat_disk(f"{folder}/uefi.raw", {"EFI/BOOT/BOOTX64.EFI": image})


def signed_disk(folder, config):
    """Debian's signed GRUB behind its signed shim, with `config` where that GRUB looks for it."""
    shim, grub = "/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    for file in (shim, grub):
        if not os.path.exists(file):
            raise unittest.SkipTest(f"no {file}: packages shim-signed and grub-efi-amd64-signed")
    with open(f"{folder}/grub.cfg", "w") as file:
        file.write(config)
    return fat_disk(f"{folder}/signed.raw", {"EFI/BOOT/BOOTX64.EFI": shim, "EFI/BOOT/grubx64.efi": grub, "EFI/debian/grub.cfg": f"{folder}/grub.cfg"})
