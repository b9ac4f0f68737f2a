"""D4RL's datasets by name: which file each is, where it lies, and how to get it.

Names and URLs are those of D4RL's ``d4rl/infos.py`` and ``d4rl/hand_manipulation_suite``; sizes
and SHA-256 those that TensorFlow Datasets publishes, ``tensorflow_datasets/d4rl/*/checksums.tsv``
(https://github.com/tensorflow/datasets). It publishes none for relocate. v0, v1 and v2 are
different data under one name; no two of them belong into one table.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from adabc_lightning.errors import UserError

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"


@dataclass(frozen=True)
class D4RLFile:
    """One HDF5 file of D4RL.

    Args:
        path: below :data:`SERVER`; its last part is the file's name on disk, as D4RL has it.
        size: bytes, None where nobody publishes it.
        sha256: of the whole file, None where nobody publishes it.
    """

    path: str
    size: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        return self.path.rsplit("/", 1)[-1]


# fmt: off
FILES = {
    "hopper-random-v0": D4RLFile("gym_mujoco/hopper_random.hdf5", 54351370,
        "667e8a78d3460d19d3104826ad3e56abc6b3c07b34e5c179c53865c3dcc6844e"),
    "hopper-medium-v0": D4RLFile("gym_mujoco/hopper_medium.hdf5", 54258063,
        "3e6530f00ba134b375dbae56a2120d8e6d6d0afe33d402b0aca3ed3a09fca83b"),
    "hopper-medium-replay-v0": D4RLFile("gym_mujoco/hopper_mixed.hdf5", 10983879,
        "901797e3f21a963b88ced7ab36ed8361ad548b470c38a0855bc265bb4dfb3de9"),
    "hopper-medium-expert-v0": D4RLFile("gym_mujoco/hopper_medium_expert.hdf5", 65017623,
        "3a024c1ecb4ff816963546d4423e2a57d8db85c9e0f4579aee9294e837d3fad0"),
    "halfcheetah-random-v0": D4RLFile("gym_mujoco/halfcheetah_random.hdf5", 88909895,
        "5ba6381942a5110069c78cdaabdeacf1847b970c5b2e72ea5be1756896363fa5"),
    "halfcheetah-medium-v0": D4RLFile("gym_mujoco/halfcheetah_medium.hdf5", 86943361,
        "fcaf602daa063c3031b9c36b777342a1ba669b41eaa6113258ecb9fb789768c3"),
    "halfcheetah-medium-replay-v0": D4RLFile("gym_mujoco/halfcheetah_mixed.hdf5", 9016685,
        "61270f65dcadddae451607eeec68fdae50d0d6ae73fab185d9fc1979cc4f385d"),
    "halfcheetah-medium-expert-v0": D4RLFile("gym_mujoco/halfcheetah_medium_expert.hdf5", 174437297,
        "c9c90f6b9fca3caa662d6a1f89808171bdb4050bab1db05d24bd85d909a333f1"),
    "walker2d-random-v0": D4RLFile("gym_mujoco/walker2d_random.hdf5", 82217081,
        "b68931aeb97c9c550f69c2054f2f303bd2a3621385001af82bf0db86fd04b2ed"),
    "walker2d-medium-v0": D4RLFile("gym_mujoco/walker2d_medium.hdf5", 84756933,
        "181a62086f3f287759201a9643e805b9e56438a8532a3915825dbaa6555bd173"),
    "walker2d-medium-replay-v0": D4RLFile("gym_mujoco/walker_mixed.hdf5", 8832937,
        "d23588d4e07e58cbc276efea183edaa26eede5a44a1c2265adc8cdb6f68a56c7"),
    "walker2d-medium-expert-v0": D4RLFile("gym_mujoco/walker2d_medium_expert.hdf5", 166972341,
        "62b612b2fe593142391b52c1ee04814ea8ba36df5de007969ec50b8b1455f245"),
    "hopper-random-v2": D4RLFile("gym_mujoco_v2/hopper_random-v2.hdf5", 152525345,
        "63103ef7059db4c0819bd054f4e83ff339030b50bcdb46bdbe50385f234b5054"),
    "hopper-medium-v2": D4RLFile("gym_mujoco_v2/hopper_medium-v2.hdf5", 152756557,
        "5bdf1bc4a713c82941de44633df669b36c89850b652a25985166796d25cf71a0"),
    "hopper-medium-replay-v2": D4RLFile("gym_mujoco_v2/hopper_medium_replay-v2.hdf5", 75854457,
        "e121c5f7c9857a307baa9edc6a2c3b48e85fedb9ac316ecddd0f48ca7ef4e39b"),
    "hopper-medium-expert-v2": D4RLFile("gym_mujoco_v2/hopper_medium_expert-v2.hdf5", 304537315,
        "9d51ad87f8c905be3880d84c6140bcdb7fbf39a19e046a237f238ba34fec9e26"),
    "halfcheetah-random-v2": D4RLFile("gym_mujoco_v2/halfcheetah_random-v2.hdf5", 237338037,
        "25407aef85b5d16c0f36b4149341edb4acc6a9e88c1db529b2de19e7464874ba"),
    "halfcheetah-medium-v2": D4RLFile("gym_mujoco_v2/halfcheetah_medium-v2.hdf5", 237727262,
        "41324e8487a9556d8cfa4538827f8937f4d63dae3030825ebc9f3a726ed08ca0"),
    "halfcheetah-medium-replay-v2": D4RLFile(
        "gym_mujoco_v2/halfcheetah_medium_replay-v2.hdf5", 59448533,
        "48d494a4770c11f48260736dec090b78bdca8375647ed4d24bfa5b6610c7f683"),
    "halfcheetah-medium-expert-v2": D4RLFile(
        "gym_mujoco_v2/halfcheetah_medium_expert-v2.hdf5", 474567252,
        "015db75dae5bbe8e94029b71fa0bafc2073365df0c94744e71031189f3f79c06"),
    "walker2d-random-v2": D4RLFile("gym_mujoco_v2/walker2d_random-v2.hdf5", 216109364,
        "4e863bb6090cf4a461548bd470564b32f1ae5b32ef3085f816b2ede7f092e7fa"),
    "walker2d-medium-v2": D4RLFile("gym_mujoco_v2/walker2d_medium-v2.hdf5", 232254996,
        "cf00f43add04c17fdfc2958dd581dea0851b2e5bedbe6fda073758a8f841aeda"),
    "walker2d-medium-replay-v2": D4RLFile("gym_mujoco_v2/walker2d_medium_replay-v2.hdf5", 86323963,
        "e75de96a4f77acf7d4e0d6fdf0d7ccb177c26c44bb4388e4fd99f543ccfa18db"),
    "walker2d-medium-expert-v2": D4RLFile("gym_mujoco_v2/walker2d_medium_expert-v2.hdf5", 462197079,
        "6b8d7f868c45bbaedf460be797fb7271b46dee6ebe45fe7a64319f2005b59a04"),
    "pen-expert-v0": D4RLFile("hand_dapg/pen-v0_expert_clipped.hdf5", 262280734,
        "0ad80bc6d5e655d01ff547750ac826ae53d143b1506456f826ced6f2b99e38ce"),
    "door-expert-v0": D4RLFile("hand_dapg/door-v0_expert_clipped.hdf5", 535876867,
        "a6e6c29985cac509ba5391dcc15ec08fa1df0907b115c0c65998153d4271989d"),
    "hammer-expert-v0": D4RLFile("hand_dapg/hammer-v0_expert_clipped.hdf5", 555652333,
        "1e51edf95b007a127565725bb157b562127d9ae15f10b7ee08d34a7aa1a0122b"),
    "relocate-expert-v0": D4RLFile("hand_dapg/relocate-v0_expert_clipped.hdf5"),
    "pen-expert-v1": D4RLFile("hand_dapg_v1/pen-expert-v1.hdf5", 262040663,
        "3791b8ca6a802061770af2977c051ac3ae261488210ce73788760a5b8308f374"),
    "door-expert-v1": D4RLFile("hand_dapg_v1/door-expert-v1.hdf5", 536056678,
        "66df4cd4e0a1e0b72ea72653ce088e29ecbfa99bac3cd2b52e64092e9a0aaab4"),
    "hammer-expert-v1": D4RLFile("hand_dapg_v1/hammer-expert-v1.hdf5", 557047483,
        "1c069a0f6e4852493023c77dc3b3a12d8d5ac2e3a034827fea3ab8a161e7185f"),
    "relocate-expert-v1": D4RLFile("hand_dapg_v1/relocate-expert-v1.hdf5"),
}
# fmt: on

# What Minari has of the same kind, for today's environments; without version → its id.
MINARI = {
    "hopper-medium": "mujoco/hopper/medium-v0",
    "halfcheetah-medium": "mujoco/halfcheetah/medium-v0",
    "walker2d-medium": "mujoco/walker2d/medium-v0",
    "pen-expert": "D4RL/pen/expert-v2",
    "door-expert": "D4RL/door/expert-v2",
    "hammer-expert": "D4RL/hammer/expert-v2",
    "relocate-expert": "D4RL/relocate/expert-v2",
}


def folder() -> Path:
    """Where D4RL keeps its files: ``$D4RL_DATASET_DIR``, else ``~/.d4rl/datasets``."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def locate(name: str, *, download: bool = False, server: str = SERVER) -> Path:
    """The file of a dataset, fetched first if it is not there and may be.

    Args:
        name: a key of :data:`FILES`.
        download: whether it may be fetched.
        server: the URL that the files' paths are relative to.
    Returns: an existing file, of the published size where one is published. The SHA-256 is
        checked when a file is fetched here, not each time it is used.
    Raises: UserError: there is no file, it is not D4RL's, or it cannot be fetched.
    """
    file = FILES[name]
    path, url = folder() / file.name, server + file.path
    if not path.is_file():
        if not download:
            raise UserError(_missing(name, path, url))
        from adabc_lightning.data.download import fetch

        fetch(url, path, size=file.size, sha256=file.sha256)
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise UserError(
            f"{path} has {size} bytes, D4RL's {name} {file.size}: remove it and fetch it again "
            f"from {url}, or use it as what it is with --data.dataset {path}"
        )
    return path


def _missing(name: str, path: Path, url: str) -> str:
    size = FILES[name].size
    amount = f" ({size / 1e6:.0f} MB)" if size else ""
    minari = MINARI.get(name.rpartition("-v")[0])
    other = f" or {minari} (Minari's, another benchmark)" if minari else ""
    return (
        f"D4RL dataset {name!r} is not at {path}: fit --data.download true fetches it from {url}"
        f"{amount}, D4RL_DATASET_DIR names another folder, --data.dataset takes your own FILE.hdf5"
        f"{other}, and `python -m adabc_lightning collect` makes a stand-in"
    )
