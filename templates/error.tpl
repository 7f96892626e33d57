<%
# A refusal, for people. Besides root, asset and query (see layout.tpl):
#   code     the status, such as 404     title    what it means     text    what is wrong and what to do
rebase("layout", title=title)
%>
<h1>{{title}}</h1>
<p class="lead">{{text[:1].upper() + text[1:]}}{{"" if text.endswith((".", "!", "?")) else "."}}</p>
<p><a href="{{root or "./"}}">To the home page</a></p>
<p class="quiet">{{code}}</p>
