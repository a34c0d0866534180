"""Images and labels, and the batches that training takes from them.

The room turns a data set's folder into splits and batches. Fetching a data set belongs in
`datasets`, batches from banks belong in `banks`.
"""
