"""Files of adapters as other programs write them: kohya and LyCORIS flattened, diffusers by component, PEFT folders."""
