"""What a checkpoint holds of the data module, as models that check it."""

from typing import Annotated, Any

from pydantic import model_validator

from adabc_lightning.data.collector import SavedCollector
from adabc_lightning.data.log import SavedLogCollector
from adabc_lightning.data.origins import SavedOrigin
from adabc_lightning.data.replay import SavedDraws, SavedRing
from adabc_lightning.env.saved import SavedTraining, Steps
from adabc_lightning.run.saved import (
    Count,
    Listing,
    Number,
    Saved,
    Text,
    absent,
    disagree,
    one_of,
    shown,
)


def _collector(state: Any) -> type[Steps]:
    log = isinstance(state, dict) and "episodes" in state
    return SavedLogCollector if log else SavedCollector


class _Rank(Saved):
    collector: SavedCollector
    replay: SavedDraws


class _OnlineRank(_Rank):
    replay: SavedRing


class SavedRewards(Saved):
    """Where they come from: each dataset's, and those of the steps of fine-tuning."""

    offline: Listing[Text]
    online: Text | None


class SavedData(SavedTraining):
    """Before the hand-over the rows are the dataset's."""

    batches: Count
    seed: Count
    dataset: Text | None
    dataset_name: Text | None
    rewards: SavedRewards = absent()  # in checkpoints of 0.1.0
    collector: Annotated[Any, one_of(_collector)]
    replay: SavedDraws
    ranks: Listing[_Rank] = absent()  # those but rank zero, of a run on several devices
    returns: Listing[Number | None] = absent()  # γ and the failure's reward, of mc_return
    kept_of_each: Listing[SavedOrigin] = absent()  # of several datasets, after the hand-over

    @model_validator(mode="after")
    def _equally_far(self) -> "SavedData":
        for index, rank in enumerate(self.ranks or ()):
            made, wanted = rank.collector.env_steps, self.collector.env_steps
            if made != wanted:
                where = f"{{where}}/ranks/{index}/collector/env_steps"
                disagree(f"{where} is {made}; it must be {wanted}")
        return self


class SavedOnlineData(SavedData):
    """With a ring on each rank."""

    replay: SavedRing
    ranks: Listing[_OnlineRank] = absent()  # type: ignore[assignment]

    @model_validator(mode="after")
    def _equally_wide(self) -> "SavedOnlineData":
        rings = [("", self.replay)]
        rings += [(f"ranks/{index}/", rank.replay) for index, rank in enumerate(self.ranks or ())]
        for place, ring in rings:
            for name in ("rows", "offline", "pending"):
                rows = getattr(ring, name)
                if rows is not None and rows.shape[1] != self.replay.rows.shape[1]:
                    disagree(
                        f"{{where}}/{place}replay/{name} is {shown(rows)}; it must be as wide as "
                        "rank zero's"
                    )
        return self


def saved_data(state: Any) -> type[SavedData]:
    """The model of a data module's state, by whether there was an environment step."""
    collector = state.get("collector") if isinstance(state, dict) else None
    made = collector.get("env_steps") if isinstance(collector, dict) else None
    return SavedOnlineData if made else SavedData
