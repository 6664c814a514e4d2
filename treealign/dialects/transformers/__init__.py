"""The dialect of transformers: `PrefixChange`, `WeightRenaming`, `GroupWeightRename`, `WeightConverter`."""
