"""Fine-tuning any backbone on instruction data: recipe, conversations, batches, curves."""
