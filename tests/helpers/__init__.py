"""What several tests share: small stores, small networks, folders to run workflows in."""
