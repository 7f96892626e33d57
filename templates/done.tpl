<%
# What was done. Besides root, asset and query (see layout.tpl):
#   title    what was asked for       said     what was done
#   onward   links that lead on, pairs of a text and an address
rebase("layout", title=title)
%>
<h1><bdi>{{title}}</bdi></h1>
<p class="lead" role="status"><bdi>{{said[:1].upper() + said[1:]}}{{"" if said.endswith((".", "!", "?")) else "."}}</bdi></p>
% for label, address in onward:
<p><a href="{{address}}">{{label}}</a></p>
% end
<p><a href="{{root}}./">To the home page</a></p>
