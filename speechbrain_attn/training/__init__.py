"""What a training script needs beside the network: data, Brain, options."""
